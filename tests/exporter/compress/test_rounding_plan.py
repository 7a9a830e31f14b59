"""Plans of quantization, carried out and refused."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from headway.calibration.rounding import nearest
from headway.errors import TargetError, UsageError
from headway.exporter.compress.rounding_plan import groups, look, plan, quantized
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.passes.cuts import set_array
from headway.exporter.passes.neurons import RemoveNeurons
from headway.exporter.passes.quantize import (
    PER_TOKEN,
    QuantizeActivations,
    QuantizeWeights,
)
from headway.exporter.recipe.pass_specs import QuantizeSpec
from headway.exporter.targets.ort.target import OrtTarget

from tests.support.lstms import INPUT_WEIGHTS, STATE_WEIGHTS, lstm
from tests.support.one_node import model_of
from tests.support.rounded import answers, batches, distance
from tests.support.variants import canonical


@pytest.fixture(scope="module")
def model(bert: Path) -> ir.Model:
    return canonical(bert)


@pytest.fixture(scope="module")
def seen(model: ir.Model):
    return look(model, groups(read_anatomy(model)), batches(), source="s", text="t", seed=0)


def test_better_numbers_are_nearer(model: ir.Model, seen) -> None:
    """GPTQ against nearest at four bits, where rounding shows."""
    off = {}
    for rounding in ("gptq", "nearest"):
        spec = QuantizeSpec(weights="int4", block=16, rounding=rounding, tables=False)  # type: ignore[arg-type]
        chosen = plan(model, read_anatomy(model), spec)
        made, _ = quantized(model, chosen, seen, spec, activations="none", signed=False)
        off[rounding] = np.mean([distance(answers(made, b), answers(model, b)) for b in batches()])
    assert off["gptq"] < 0.8 * off["nearest"]


def test_uneven_and_split_models_are_quantized_too(bert: Path) -> None:
    from headway.exporter.passes.heads import RemoveHeads
    from headway.exporter.passes.lowrank import SplitWeights

    made = canonical(bert)
    RemoveHeads({0: [1], 2: []})(made)
    RemoveNeurons({(1, 0): range(24)})(made)
    SplitWeights({"encoder.layer.3.intermediate.dense.weight": 8})(made)
    spec = QuantizeSpec()
    chosen = plan(made, read_anatomy(made), spec)
    found = look(made, chosen.groups, batches(), source="", text="", seed=0)
    rounded, _ = quantized(made, chosen, found, spec, activations="per-token", signed=False)
    after = read_anatomy(rounded)
    assert [b.attention.heads if b.attention else 0 for b in after.blocks if b.attention] == [1, 4, 4]
    assert any(p.rank == 8 for b in after.blocks for p in b.projections)
    assert distance(answers(rounded, batches(1)[0]), answers(made, batches(1)[0])) < 0.05


def test_signed_values_have_zero_point_zero(model: ir.Model, seen) -> None:
    spec = QuantizeSpec(activations="static", tables=False)
    chosen = plan(model, read_anatomy(model), spec)
    made, _ = quantized(model, chosen, seen, spec, activations="static", signed=True)
    zeros = [n.inputs[2] for n in made.graph if n.op_type == "QuantizeLinear"]
    assert len(zeros) == 16
    assert all((array := constant(z)) is not None and array.dtype == np.int8 and not array.any() for z in zeros)


def test_what_cannot_be_rounded_is_refused_or_said(model: ir.Model, seen) -> None:
    with pytest.raises(UsageError, match="no such weight matrix"):
        QuantizeWeights({"nowhere": nearest(np.ones((4, 4), np.float32))})(model.clone())
    with pytest.raises(UsageError, match="no matmul by a quantized weight"):
        QuantizeActivations({"embeddings.LayerNorm": PER_TOKEN})(model.clone())
    with pytest.raises(UsageError, match=r"'encoder\.layer\.11'"):
        plan(model, read_anatomy(model), QuantizeSpec(keep=["encoder.layer.1", "encoder.layer.11"]))
    spec = QuantizeSpec(keep=["encoder.layer.1"])
    chosen = plan(model, read_anatomy(model), spec)
    assert len(chosen.groups) == 12
    assert chosen.left["encoder.layer.1.output.dense.weight"] == "kept in float by the recipe"
    made, _ = quantized(model, chosen, seen, spec, activations="per-token", signed=False)
    with pytest.raises(UsageError, match="quantized already"):
        plan(made, read_anatomy(made), spec)
    with pytest.raises(TargetError, match="kernels"):
        OrtTarget().lower(made, read_anatomy(made))
    with pytest.raises(UsageError, match="remove structure before"):
        RemoveNeurons({(0, 0): [1, 2]})(made)


def values_of(model: ir.Model, name: str) -> np.ndarray:
    """Return an activation at all tokens."""
    graph, value = TorchGraph(model), ir.convenience.create_value_mapping(model.graph)[name]
    with torch.no_grad():
        parts = [graph.run(graph.feeds(b.feeds), [value])[value].numpy()[b.mask] for b in batches()]
    return np.concatenate(parts).astype(np.float64)


@pytest.mark.parametrize("correct", [True, False])
def test_biases_take_back_the_mean_error_of_the_weights(model: ir.Model, seen, correct: bool) -> None:
    """Of the first projection, whose input is not rounded itself, the mean output is what it was."""
    spec = QuantizeSpec(weights="int4", rounding="nearest", migrate=False, tables=False, correct_bias=correct)
    rounded, _ = quantized(model, plan(model, read_anatomy(model), spec), seen, spec, activations="none", signed=False)
    part = read_anatomy(model).blocks[0].attention
    assert part is not None
    weight = constant(model.graph.initializers[part.v.weight])
    assert weight is not None
    inputs = seen.values[str(part.v.input.name)].mean
    lost = inputs @ (weight - nearest(weight, bits=4, block=spec.block).dequantized())
    biases = [constant(m.graph.initializers[part.v.weight.replace("weight", "bias")]) for m in (rounded, model)]
    assert biases[0] is not None and biases[1] is not None
    moved = biases[0] - biases[1]
    np.testing.assert_allclose(moved, lost if correct else 0 * lost, atol=1e-6)
    name = str(part.v.output.name)
    left = np.abs((values_of(rounded, name) - values_of(model, name)).mean(axis=0)).max()
    assert left < 1e-5 if correct else left > 1e-3


def test_what_the_recipe_keeps_is_a_whole_name(model: ir.Model) -> None:
    """Layer 1 is not layer 10 or 11; a weight may be named itself; what is no module is refused."""
    deep = model.clone()
    for value in list(deep.graph.initializers.values()):
        value.name = str(value.name).replace("layer.2.", "layer.10.").replace("layer.3.", "layer.11.")
    anatomy = read_anatomy(deep)
    kept = plan(deep, anatomy, QuantizeSpec(keep=["encoder.layer.1"])).left
    assert {n.split(".")[2] for n, why in kept.items() if why == "kept in float by the recipe"} == {"1"}
    weight = "encoder.layer.11.output.dense.weight"
    kept = plan(deep, anatomy, QuantizeSpec(keep=[weight])).left
    assert [n for n, why in kept.items() if why == "kept in float by the recipe"] == [weight]
    for name in ("encoder.layer.12", "encoder.lay", "encoder.layer.1.", "layer.1"):
        with pytest.raises(UsageError, match="no module or weight"):
            plan(deep, anatomy, QuantizeSpec(keep=[name]))


@pytest.mark.parametrize(("rows", "left"), [(1 << 11, None), ((1 << 11) - 1, "too small to matter")])
def test_embeddings_are_quantized_from_a_size_on(rows: int, left: str | None, model: ir.Model) -> None:
    name = "embeddings.word_embeddings.weight"
    large = model.clone()
    set_array(large.graph.initializers[name], np.ones((rows, 32), np.float32))
    anatomy = read_anatomy(large)
    chosen = plan(large, anatomy, QuantizeSpec())
    assert chosen.left.get(name) == left and chosen.tables == (() if left else (name,))
    if left is None:
        assert plan(large, anatomy, QuantizeSpec(tables=False)).tables == ()
        in_float = plan(large, anatomy, QuantizeSpec(), int8_tables=False)
        assert in_float.left[name] == "the target looks embeddings up in float" and in_float.tables == ()
        kept = plan(large, anatomy, QuantizeSpec(keep=["embeddings"]))
        assert kept.left[name] == "kept in float by the recipe" and kept.tables == ()


def test_weights_of_lstms_are_quantized_where_the_target_folds_them() -> None:
    model = model_of(lstm())
    anatomy, names = read_anatomy(model), (INPUT_WEIGHTS, STATE_WEIGHTS)
    assert plan(model, anatomy, QuantizeSpec(), int8_recurrent=True).recurrent == names
    in_float = plan(model, anatomy, QuantizeSpec())
    assert in_float.recurrent == () and set(in_float.left) == set(names)
    assert "would dequantize the weights of LSTMs in every run" in in_float.left[INPUT_WEIGHTS]
    kept = plan(model, anatomy, QuantizeSpec(keep=[STATE_WEIGHTS]), int8_recurrent=True)
    assert kept.recurrent == (INPUT_WEIGHTS,) and kept.left == {STATE_WEIGHTS: "kept in float by the recipe"}
    (node,) = model.graph
    model.graph.insert_after(node, ir.node("Neg", [model.graph.initializers[INPUT_WEIGHTS]], name="other"))
    shared = plan(model, anatomy, QuantizeSpec(), int8_recurrent=True)
    assert shared.left == {INPUT_WEIGHTS: "also read by something other than LSTMs"}
