"""What is wholly zero is cut away without a trace in the answers; other zeros are said."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from headway.exporter.graph.anatomy import Block, read_anatomy
from headway.exporter.graph.edit import bias_of, constant
from headway.exporter.passes.cuts import set_array
from headway.exporter.passes.lowrank import SplitWeights
from headway.exporter.passes.zeros import any_two_of_four, cut_zeros, is_two_of_four, zeros_left

from tests.checkpoints.reweighted import make_reweighted
from tests.support import checkpoints
from tests.support.pass_checks import answers, largest_difference

ROUNDING = 1e-5
"""A sum with fewer zeros in it is added in another order."""


def block_of(model: ir.Model, index: int = 1) -> Block:
    return read_anatomy(model).blocks[index]


def put_zeros(value: ir.Value | None, index: object) -> None:
    array = constant(value)
    assert value is not None and array is not None
    changed = array.copy()
    changed[index] = 0  # type: ignore[index]
    set_array(value, changed)


def kill_heads(block: Block, heads: slice, *, by_values: bool) -> None:
    part = block.attention
    assert part is not None
    places = slice(heads.start * part.head_dim, heads.stop * part.head_dim)
    if by_values:
        put_zeros(part.v.node.inputs[1], (slice(None), places))
        put_zeros(bias_of(part.v.bias), places)
    else:
        put_zeros(part.o.node.inputs[1], places)


@pytest.mark.parametrize("by_values", [True, False])
def test_heads_of_zeros(bert_model: ir.Model, by_values: bool) -> None:
    model = bert_model.clone()
    kill_heads(block_of(model), slice(1, 3), by_values=by_values)
    smaller, sentences = cut_zeros(model)
    assert sentences == ("wholly zero, and cut away: block 1: heads 4 → 2",)
    assert largest_difference(answers(model), answers(smaller)) < ROUNDING
    assert read_anatomy(smaller).parameters < read_anatomy(model).parameters


def test_values_that_are_a_constant_are_no_zeros(bert_model: ir.Model) -> None:
    """A head whose values have no weights but a bias adds that bias."""
    model = bert_model.clone()
    part = block_of(model).attention
    assert part is not None
    put_zeros(part.v.node.inputs[1], (slice(None), slice(0, part.head_dim)))
    assert cut_zeros(model)[0] is model


@pytest.mark.parametrize("side", ["up", "down"])
def test_neurons_of_zeros(bert_model: ir.Model, side: str) -> None:
    model = bert_model.clone()
    forward = block_of(model).feed_forwards[0]
    if side == "up":
        put_zeros(forward.up.node.inputs[1], (slice(None), slice(0, 10)))
        put_zeros(bias_of(forward.up.bias), slice(0, 10))
    else:
        put_zeros(forward.down.node.inputs[1], slice(0, 10))
    smaller, sentences = cut_zeros(model)
    assert sentences[0] == "wholly zero, and cut away: block 1: neurons 64 → 54"
    assert largest_difference(answers(model), answers(smaller)) < ROUNDING


def test_neurons_with_a_bias_are_kept(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    put_zeros(block_of(model).feed_forwards[0].up.node.inputs[1], (slice(None), slice(0, 10)))
    assert cut_zeros(model)[0] is model


def test_heads_and_neurons_of_one_block_and_a_part_of_zeros_alone(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    kill_heads(block_of(model), slice(0, 4), by_values=False)
    put_zeros(block_of(model).feed_forwards[0].down.node.inputs[1], slice(0, 3))
    put_zeros(block_of(model, 2).feed_forwards[0].down.node.inputs[1], slice(None))
    smaller, sentences = cut_zeros(model)
    assert sentences[0] == "wholly zero, and cut away: block 1: heads 4 → 0, neurons 64 → 61; block 2: neurons 64 → 0"
    assert largest_difference(answers(model), answers(smaller)) < ROUNDING


def test_ranks_of_zeros(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    name = block_of(model).feed_forwards[0].up.weight
    SplitWeights({name: 9})(model)
    projection = block_of(model).feed_forwards[0].up
    assert projection.first is not None
    put_zeros(projection.first.inputs[1], (slice(None), slice(0, 2)))
    put_zeros(projection.node.inputs[1], slice(5, 6))
    smaller, sentences = cut_zeros(model)
    assert "rank 9 → 6" in sentences[0]
    assert largest_difference(answers(model), answers(smaller)) < ROUNDING


def test_a_factor_that_something_else_reads_keeps_its_ranks(bert_model: ir.Model) -> None:
    """What is zero elsewhere is cut all the same."""
    model = bert_model.clone()
    forward = block_of(model).feed_forwards[0]
    SplitWeights({forward.up.weight: 9})(model)
    forward = block_of(model).feed_forwards[0]
    assert forward.up.first is not None
    put_zeros(forward.up.first.inputs[1], (slice(None), slice(0, 2)))
    put_zeros(block_of(model, 2).feed_forwards[0].down.node.inputs[1], slice(0, 10))
    shared = ir.node("MatMul", [block_of(model, 2).feed_forwards[0].down.output, forward.up.first.inputs[1]])
    shared.outputs[0].name, shared.outputs[0].type = "more", ir.TensorType(ir.DataType.FLOAT)
    shared.outputs[0].shape = ir.Shape(["batch", "sequence", 9])
    model.graph.append(shared)
    model.graph.outputs.append(shared.outputs[0])
    smaller, sentences = cut_zeros(model)
    assert sentences[0] == "wholly zero, and cut away: block 2: neurons 64 → 54"
    assert block_of(smaller).feed_forwards[0].up.rank == 9
    assert largest_difference(answers(model), answers(smaller)) < ROUNDING


@pytest.mark.parametrize("family", ["albert", "deberta-v2", "mpnet", "modernbert", "mobilebert"])
def test_families(family: str, family_models: dict[str, ir.Model]) -> None:
    """Shared layers, heads with positions of their own, gated and merged weights."""
    model = family_models[family].clone()
    block = block_of(model, 0)
    kill_heads(block, slice(0, 1), by_values=False)
    put_zeros(block.feed_forwards[0].down.node.inputs[1], slice(0, 5))
    smaller, sentences = cut_zeros(model)
    assert "heads" in sentences[0] and "neurons" in sentences[0]
    assert largest_difference(answers(model), answers(smaller)) < ROUNDING


def test_nothing_is_done_where_nothing_is_zero(bert_model: ir.Model) -> None:
    assert cut_zeros(bert_model) == (bert_model, ())


def test_other_zeros_are_said(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    rng = np.random.default_rng(0)
    for projection in (p for b in read_anatomy(model).blocks for p in b.projections):
        array = constant(projection.node.inputs[1])
        assert array is not None
        put_zeros(projection.node.inputs[1], rng.permutation(array.size).reshape(array.shape) < 0.4 * array.size)
    assert zeros_left(read_anatomy(model)) == ("40 % zeros, unstructured: smaller at rest, not faster",)


def test_near_zeros_are_said_with_the_threshold(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    for block in read_anatomy(model).blocks:
        weight = block.feed_forwards[0].up.node.inputs[1]
        array = constant(weight)
        assert weight is not None and array is not None
        set_array(weight, np.where(np.arange(len(array))[:, None] < 16, np.float32(1e-9), array))
    (sentence,) = zeros_left(read_anatomy(model))
    assert "12 % of the weights" in sentence and "below 1e-06 of the largest" in sentence


@pytest.mark.parametrize("bounded", [True, False], ids=["near zeros", "zeros"])
def test_what_reweighted_proximal_pruning_leaves_is_said_and_kept(bounded: bool, tmp_path: Path) -> None:
    model = make_reweighted(tmp_path, bounded=bounded)
    source, graph = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    (sentence,) = source.sentences
    weights = {n: w.detach().numpy() for n, w in model.named_parameters() if ".layer." in n and w.ndim == 2}
    shares = [np.abs(w) < 1e-6 * np.abs(w).max() for w in weights.values()]
    share = f"{sum(s.sum() for s in shares) / sum(s.size for s in shares):.0%}".replace("%", " %")
    assert all(bounded == bool(w.all()) for w in weights.values())
    if bounded:
        said = f"{share} of the weights are not zero, but below 1e-06 of the largest of their weight matrix: kept as they are"
    else:
        said = f"{share} zeros, unstructured: smaller at rest, not faster"
    assert sentence.startswith(said)
    for name, weight in weights.items():
        kept = constant(graph.graph.initializers[name])
        assert kept is not None and np.array_equal(kept.T, weight)


def test_two_of_four_along_the_inputs(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    for projection in (p for b in read_anatomy(model).blocks for p in b.projections):
        put_zeros(projection.node.inputs[1], np.arange(projection.in_features) % 4 < 2)
    assert "50 % zeros, at most two of four along the inputs in 18 of 18 weights" in zeros_left(read_anatomy(model))[0]
    assert any_two_of_four(model) and not any_two_of_four(bert_model)
    weight = np.ones((8, 3), np.float32)
    weight[::2] = 0
    assert is_two_of_four(weight.astype(ml_dtypes.bfloat16))
    assert is_two_of_four(weight) and not is_two_of_four(weight.T.copy()) and not is_two_of_four(weight[:6])
