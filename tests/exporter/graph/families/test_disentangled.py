"""DeBERTa's attention, which stays in ordinary operators."""

from pathlib import Path

import onnx_ir as ir
import pytest

from headway.errors import SourceError
from headway.exporter.graph.attention_forms import normalizes_scores
from headway.exporter.graph.edit import nodes
from headway.exporter.graph.families.disentangled import is_disentangled, read_disentangled

from tests.support import models
from tests.support.hand_made import decomposed
from tests.support.variants import canonical


@pytest.fixture(scope="module")
def softmax(tmp_path_factory: pytest.TempPathFactory) -> ir.Node:
    model = canonical(models.make_model(tmp_path_factory.mktemp("deberta"), "deberta-v2", num_hidden_layers=1))
    (node,) = [n for n in nodes(model.graph, "Softmax") if normalizes_scores(n)]
    return node


def test_it_is_told_from_plain_attention(softmax: ir.Node, tmp_path: Path) -> None:
    assert is_disentangled(softmax)
    assert not is_disentangled(nodes(decomposed("mul", "add", 0).graph, "Softmax")[0])


def test_queries_and_keys_are_those_of_the_content(softmax: ir.Node) -> None:
    part = read_disentangled(softmax)
    assert part.disentangled and (part.heads, part.kv_heads, part.head_dim) == (4, 4, 8)
    names = [p.weight.split("attention.")[-1] for p in (part.q, part.k, part.v, part.o)]
    assert names == ["self.query_proj.weight", "self.key_proj.weight", "self.value_proj.weight", "output.dense.weight"]


def test_scores_without_heads_are_refused(softmax: ir.Node) -> None:
    scores = softmax.inputs[0]
    assert scores is not None
    shape = scores.shape
    try:
        scores.shape = ir.Shape(["batch", "sequence", "sequence"])
        with pytest.raises(SourceError, match="its heads cannot be read"):
            read_disentangled(softmax)
    finally:
        scores.shape = shape
