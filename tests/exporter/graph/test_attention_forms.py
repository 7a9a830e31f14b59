"""Which forms of attention are recognized, and what is read from them."""

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import SourceError
from headway.exporter.graph.attention_forms import match_attention, normalizes_scores
from headway.exporter.graph.probe import Prober

from tests.support.hand_made import HEAD_DIM, HEADS, decomposed


def softmax_of(model: ir.Model) -> ir.Node:
    return next(n for n in model.graph if n.op_type == "Softmax")


@pytest.mark.parametrize("scale_form", ["mul", "div", "both"])
@pytest.mark.parametrize("mask_form", ["add", "keep", "drop"])
def test_scale_mask_and_inputs_are_read(scale_form: str, mask_form: str) -> None:
    model = decomposed(scale_form, mask_form, seed=0)
    softmax = softmax_of(model)
    assert normalizes_scores(softmax)
    match = match_attention(softmax, Prober(model, 50))
    assert match is not None
    assert match.scale == pytest.approx(0.5, rel=1e-6)
    assert [v.name for v in (match.q, match.v)] == ["qh", "vh"] and match.out.name == "o4"
    assert match.k.shape is not None and [match.k.shape[1], match.k.shape[3]] == [HEADS, HEAD_DIM]
    assert [t.name for t in match.terms] == [{"add": "bias", "keep": "keep", "drop": "keep"}[mask_form]]
    assert not match.causal


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 1, 1), (1, 1, 1, 1)])
def test_a_scale_is_one_number_of_any_shape(shape: tuple[int, ...]) -> None:
    """Queries and keys are each multiplied by the root of 0.5."""
    model = decomposed("both", "add", 0)
    root = model.graph.initializers["root"]
    root.const_value = ir.tensor(np.full(shape, np.sqrt(0.5), np.float32), name="root")
    root.shape = ir.Shape(shape)
    match = match_attention(softmax_of(model), Prober(model, 50))
    assert match is not None and match.q.name == "qh"
    assert match.scale == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("mask_form", ["keep", "drop"])
@pytest.mark.parametrize(
    ("low", "is_mask"), [(-5.0, False), (-100.0, False), (0.0, False), (-1e4, True), (-np.inf, True)]
)
def test_only_a_number_that_blocks_makes_a_choice_a_mask(mask_form: str, low: float, is_mask: bool) -> None:
    """A bias of -5 lets masked keys take part: it cannot be replaced by a mask."""
    model = decomposed("mul", mask_form, 0)
    model.graph.initializers["low"].const_value = ir.tensor(np.float32(low), name="low")
    match = match_attention(softmax_of(model), Prober(model, 50))
    assert (match is not None) is is_mask


@pytest.mark.parametrize("mask_form", ["add", "keep", "drop"])
def test_a_mask_inside_the_scale_is_no_match(mask_form: str) -> None:
    """It would be scaled with the scores."""
    model = decomposed("mul", mask_form, 0)
    softmax = softmax_of(model)
    scores = softmax.inputs[0]
    assert scores is not None
    scaled = ir.node("Mul", [scores, model.graph.initializers["inverse"]])
    scaled.outputs[0].shape, scaled.outputs[0].type = scores.shape, scores.type
    model.graph.insert_before(softmax, scaled)
    softmax.replace_input_with(0, scaled.outputs[0])
    assert match_attention(softmax, Prober(model, 50)) is None


@pytest.mark.parametrize("perm", [None, [0, 3, 2, 1], [1, 0, 2, 3]])
def test_keys_that_are_not_transposed_are_no_match(perm: list[int] | None) -> None:
    model = decomposed("mul", "add", 0)
    transpose = next(n for n in model.graph if n.outputs[0].name == "kh")
    if perm is None:
        other = ir.node("Sigmoid", [transpose.outputs[0]])
        matmul = next(n for n in model.graph if n.outputs[0].name == "raw")
        other.outputs[0].shape, other.outputs[0].type = transpose.outputs[0].shape, transpose.outputs[0].type
        model.graph.insert_before(matmul, other)
        matmul.replace_input_with(1, other.outputs[0])
    else:
        transpose.attributes["perm"] = ir.AttrInt64s("perm", perm)
    assert match_attention(softmax_of(model), Prober(model, 50)) is None


def test_scores_behind_another_operator_are_no_match() -> None:
    model = decomposed("mul", "add", 0)
    softmax = softmax_of(model)
    scores = softmax.inputs[0]
    assert scores is not None
    capped = ir.node("Tanh", [scores])
    capped.outputs[0].shape, capped.outputs[0].type = scores.shape, scores.type
    model.graph.insert_before(softmax, capped)
    softmax.replace_input_with(0, capped.outputs[0])
    assert match_attention(softmax, Prober(model, 50)) is None


def fused(**attributes: object) -> ir.Node:
    heads = [
        ir.Value(name=n, shape=ir.Shape(["b", 2, "s", 4]), type=ir.TensorType(ir.DataType.FLOAT))
        for n in ("q", "k", "v")
    ]
    return ir.node("Attention", heads, attributes=attributes, num_outputs=3, name="fused")  # type: ignore[arg-type]


def test_the_operator_tells_its_scale_or_has_the_usual_one() -> None:
    prober = Prober(decomposed("mul", "add", 0), 50)
    given, usual = match_attention(fused(scale=0.25, is_causal=1), prober), match_attention(fused(), prober)
    assert given is not None and usual is not None
    assert (given.scale, given.causal) == (0.25, True)
    assert (usual.scale, usual.causal, usual.terms) == (1 / np.sqrt(4), False, [])


def test_attention_of_a_decoder_is_refused() -> None:
    prober = Prober(decomposed("mul", "add", 0), 50)
    with pytest.raises(SourceError, match="'fused': Attention with softcap"):
        match_attention(fused(softcap=5.0), prober)
    cached = fused()
    ir.node("Identity", [cached.outputs[1]])
    with pytest.raises(SourceError, match="'fused': Attention with key/value cache"):
        match_attention(cached, prober)
