"""Attentions and feed-forwards, read from their nodes."""

from pathlib import Path

import onnx_ir as ir
import pytest

from headway.errors import SourceError
from headway.exporter.graph.edit import nodes
from headway.exporter.graph.parts import read_attention, read_feed_forward

from tests.support import models
from tests.support.variants import canonical


def test_an_attention_has_four_projections(bert_model: ir.Model) -> None:
    part = read_attention(nodes(bert_model.graph, "Attention")[0])
    assert (part.heads, part.kv_heads, part.head_dim, part.merged, part.disentangled) == (4, 4, 8, False, False)
    ends = [p.weight.rsplit(".", 2)[-2] for p in (part.q, part.k, part.v, part.o)]
    assert ends == ["query", "key", "value", "dense"]


def test_heads_that_do_not_divide_the_columns_are_refused(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    node = nodes(model.graph, "Attention")[0]
    node.attributes["q_num_heads"] = ir.AttrInt64("q_num_heads", 5)
    with pytest.raises(SourceError, match="32 query columns do not divide into 5 heads"):
        read_attention(node)


def test_merged_and_gated_parts_are_told(tmp_path: Path) -> None:
    graph = canonical(models.make_model(tmp_path, "modernbert", num_hidden_layers=1)).graph
    assert read_attention(nodes(graph, "Attention")[0]).merged
    forwards = [f for n in nodes(graph, "Gelu") if (f := read_feed_forward(n)) is not None]
    assert [(f.gated, f.width, f.up.out_features, f.activation) for f in forwards] == [(True, 64, 128, "Gelu")]


def test_an_activation_of_a_head_is_no_feed_forward(bert_model: ir.Model) -> None:
    assert [read_feed_forward(n) for n in nodes(bert_model.graph, "Tanh")] == [None]  # the pooler's
    (forward,) = [read_feed_forward(n) for n in nodes(bert_model.graph, "Gelu")]
    assert forward is not None and (forward.width, forward.gated) == (64, False)
