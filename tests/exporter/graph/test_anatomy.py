"""What a graph is made of is read exactly, or refused."""

import onnx_ir as ir
import pytest

from headway.errors import SourceError
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.canonical_attention import canonicalize_attention
from headway.exporter.graph.probe import Prober

from tests.support.hand_made import decomposed


def test_a_graph_without_feed_forwards_has_no_exact_anatomy() -> None:
    model = decomposed("mul", "add", 0)
    values = ir.convenience.create_value_mapping(model.graph)
    canonicalize_attention(model, Prober(model, 50), values["attention_mask"], values["input_ids"], 64)
    model.graph.sort()
    with pytest.raises(SourceError, match="output projection"):
        read_anatomy(model)
