"""Attention in every form becomes one node, against numpy in float64."""

import numpy as np
import onnx_ir as ir
import pytest

from headway.exporter.graph.canonical_attention import canonicalize_attention
from headway.exporter.graph.edit import initializer, insert
from headway.exporter.graph.mask import OWN
from headway.exporter.graph.parts import NO_FORM, UNREAD
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


def test_attention_of_no_known_form_stays_and_is_named() -> None:
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
    feeds = {"input_ids": np.array([[3, 4, 5, 6]]), "attention_mask": np.array([[1, 1, 1, 0]])}
    wanted = run(model, feeds)[0]
    values = ir.convenience.create_value_mapping(model.graph)
    sentences = canonicalize_attention(model, Prober(model, 50), values["attention_mask"], values["input_ids"], 64)
    assert sentences == (f"attention 'the_softmax' stays in ordinary operators: {NO_FORM}",)
    assert softmax.meta[UNREAD] == NO_FORM and not [n for n in model.graph if n.op_type == "Attention"]
    np.testing.assert_array_equal(run(model, feeds)[0], wanted)


@pytest.mark.parametrize("boolean", [False, True])
def test_a_mask_of_no_known_kind_stays_as_the_source_computes_it(boolean: bool) -> None:
    """Every other key is blocked, beside padding: as T5's mask, it also holds numbers that depend on positions."""
    model = decomposed("mul", "add" if not boolean else "where", 0)
    graph = model.graph
    if boolean:
        where = next(n for n in graph if n.op_type == "Where" and n.inputs[0].dtype == ir.DataType.BOOL)
        term, place = where.inputs[0], where
    else:
        place = next(n for n in graph if n.op_type == "Add" and n.outputs[0].name == "s1")
        term = place.inputs[1]
    assert term is not None
    length = insert(place, "Shape", [graph.inputs[0]], name="own.length", start=1, end=2, dtype=ir.DataType.INT64)
    count = insert(place, "Squeeze", [length], name="own.count", dtype=ir.DataType.INT64)
    ends = [initializer(graph, f"own.{n}", np.int64(n)) for n in (0, 1, 2)]
    keys = insert(place, "Range", [ends[0], count, ends[1]], name="own.keys", dtype=ir.DataType.INT64)
    odd = insert(place, "Mod", [keys, ends[2]], name="own.odd", dtype=ir.DataType.INT64)
    kind = ir.DataType.BOOL if boolean else ir.DataType.FLOAT
    number = insert(place, "Cast", [odd], name="own.number", dtype=kind, to=int(kind))
    both = insert(place, "Or" if boolean else "Add", [term, number], name="own.both", dtype=kind)
    place.replace_input_with(list(place.inputs).index(term), both)
    feeds = {"input_ids": np.array([[3, 4, 5, 6, 7]] * 2), "attention_mask": np.array([[1] * 5, [1, 1, 0, 1, 0]])}
    wanted = run(model, feeds)[0]
    values = ir.convenience.create_value_mapping(graph)
    sentences = canonicalize_attention(model, Prober(model, 50), values["attention_mask"], values["input_ids"], 64)
    graph.sort()
    name = "own.both.keep" if boolean else "own.both"
    assert len(sentences) == 1 and sentences[0].startswith(f"mask '{name}' stays as the source computes it: ")
    (attention,) = [n for n in graph if n.op_type == "Attention"]
    assert attention.inputs[3] is not None and str(attention.inputs[3].name).startswith(OWN)
    np.testing.assert_allclose(run(model, feeds)[0], wanted, atol=2e-6)


def test_a_term_that_is_computed_from_the_text_is_no_mask() -> None:
    model = decomposed("mul", "add", 0)
    graph = model.graph
    place = next(n for n in graph if n.op_type == "Add" and n.outputs[0].name == "s1")
    content = next(n.outputs[0] for n in graph if n.op_type == "MatMul")
    total = insert(place, "ReduceSum", [content], name="total", dtype=ir.DataType.FLOAT, shape=[1, 1, 1], keepdims=1)
    mixed = insert(place, "Add", [place.inputs[1], total], name="mixed", dtype=ir.DataType.FLOAT)
    place.replace_input_with(1, mixed)
    values = ir.convenience.create_value_mapping(graph)
    (sentence,) = canonicalize_attention(model, Prober(model, 50), values["attention_mask"], values["input_ids"], 64)
    assert "'mixed', which is computed from the text by trained weights" in sentence
