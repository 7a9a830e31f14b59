"""Attention in every form becomes one node, against numpy in float64."""

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import SourceError
from headway.exporter.graph.canonical_attention import canonicalize_attention
from headway.exporter.graph.probe import Prober

from tests.support.hand_made import decomposed, reference, run


@pytest.mark.parametrize("scale_form", ["mul", "div", "both"])
@pytest.mark.parametrize("mask_form", ["add", "keep", "drop"])
def test_every_spelling_becomes_one_attention(scale_form: str, mask_form: str) -> None:
    model = decomposed(scale_form, mask_form, seed=1)
    ids = np.random.default_rng(0).integers(0, 50, (3, 9))
    mask = np.ones_like(ids)
    mask[1, 6:] = 0
    mask[2, :2] = 0
    expected = reference(model, ids, mask)
    values = ir.convenience.create_value_mapping(model.graph)
    canonicalize_attention(model, Prober(model, 50), values["attention_mask"], values["input_ids"], 64)
    model.graph.sort()
    (node,) = [n for n in model.graph if n.op_type == "Attention"]
    assert node.attributes["scale"].value == pytest.approx(0.5, rel=1e-6)
    np.testing.assert_allclose(run(model, {"input_ids": ids, "attention_mask": mask})[0], expected, atol=2e-5)


def test_attention_of_no_known_form_is_named() -> None:
    model = decomposed("mul", "add", 0)
    scores = next(n for n in model.graph if n.op_type == "Softmax").inputs[0]
    assert scores is not None
    squared = ir.node("Mul", [scores, scores])
    squared.outputs[0].shape, squared.outputs[0].type = scores.shape, scores.type
    model.graph.append(squared)
    softmax = next(n for n in model.graph if n.op_type == "Softmax")
    softmax.replace_input_with(0, squared.outputs[0])
    softmax.name = "the_softmax"
    model.graph.sort()
    values = ir.convenience.create_value_mapping(model.graph)
    with pytest.raises(SourceError, match="the_softmax"):
        canonicalize_attention(model, Prober(model, 50), values["attention_mask"], values["input_ids"], 64)
