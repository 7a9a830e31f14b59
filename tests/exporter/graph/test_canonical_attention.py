"""Attention in every form becomes one node, against numpy in float64."""

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import SourceError
from headway.exporter.graph.canonical_attention import canonicalize_attention
from headway.exporter.graph.edit import initializer, insert
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


def windowed(widths: list[int]) -> ir.Model:
    """Return an attention whose scores are chosen by several windows, one behind the other."""
    model = decomposed("mul", "keep", seed=2)
    softmax = next(n for n in model.graph if n.op_type == "Softmax")
    ids, low = model.graph.inputs[0], model.graph.initializers["low"]
    i64, boolean = ir.DataType.INT64, ir.DataType.BOOL

    def op(kind: str, inputs: list, name: str, dtype: ir.DataType, **attributes: object) -> ir.Value:
        return insert(softmax, kind, inputs, name=name, dtype=dtype, **attributes)

    def number(name: str, value: object) -> ir.Value:
        return initializer(model.graph, name, np.asarray(value))

    length = op("Squeeze", [op("Shape", [ids], "shape", i64, start=1, end=2)], "length", i64)
    index = op("Range", [number("from", np.int64(0)), length, number("by", np.int64(1))], "index", i64)
    column = op("Unsqueeze", [index, number("axis", np.array([1]))], "column", i64)
    distance = op("Abs", [op("Sub", [column, index], "offset", i64)], "distance", i64)
    for width in widths:
        near = op("LessOrEqual", [distance, number(f"w{width}", np.int64(width))], f"near{width}", boolean)
        scores = softmax.inputs[0]
        assert scores is not None
        chosen = op("Where", [near, scores, low], f"chosen{width}", ir.DataType.FLOAT)
        chosen.shape = scores.shape
        softmax.replace_input_with(0, chosen)
    model.graph.sort()
    return model


@pytest.mark.parametrize("widths", [[1, 3], [3, 1], [2]])
def test_of_several_windows_the_narrowest_holds(widths: list[int]) -> None:
    model = windowed(widths)
    ids = np.random.default_rng(0).integers(0, 50, (2, 9))
    mask = np.ones_like(ids)
    mask[1, 7:] = 0
    feeds = {"input_ids": ids, "attention_mask": mask}
    (expected,) = run(model, feeds)
    values = ir.convenience.create_value_mapping(model.graph)
    canonicalize_attention(model, Prober(model, 50), values["attention_mask"], values["input_ids"], 64)
    model.graph.sort()
    assert any(f"window_{min(widths)}" in str(v.name) for n in model.graph for v in n.outputs)
    real = mask.astype(bool)
    np.testing.assert_allclose(run(model, feeds)[0][real], expected[real], atol=2e-5)


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
