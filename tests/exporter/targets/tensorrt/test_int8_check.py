"""What TensorRT does not fuse is found before it is built."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from headway.calibration.rounding import nearest
from headway.engine.build import BuildSettings, build_engine
from headway.errors import TargetError
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant, initializer, insert, is_projection, nodes
from headway.exporter.passes.quantize import QuantizeWeights
from headway.exporter.targets.tensorrt.int8_check import problems_of

from tests.support.quantized import quantize
from tests.support.typed_graphs import MISSING, PROFILE, batch, lowered, run, within


def break_zero_point(graph: ir.Graph) -> None:
    node = nodes(graph, "QuantizeLinear")[0]
    node.replace_input_with(2, initializer(graph, "three", np.array(3, np.int8)))


def break_unsigned(graph: ir.Graph) -> None:
    node = nodes(graph, "QuantizeLinear")[0]
    node.replace_input_with(2, initializer(graph, "unsigned", np.array(0, np.uint8)))


def break_half(graph: ir.Graph) -> None:
    node = next(n for n in nodes(graph, "MatMul") if n.inputs[1].producer() is not None)
    quantize_node = node.inputs[0].producer().inputs[0].producer()
    node.replace_input_with(0, quantize_node.inputs[0])


def break_step(graph: ir.Graph) -> None:
    node = next(n for n in nodes(graph, "DequantizeLinear") if n.inputs[0].producer() is not None)
    node.replace_input_with(1, initializer(graph, "other_step", np.array(0.5, np.float32)))


def break_axis(graph: ir.Graph) -> None:
    node = next(n for n in nodes(graph, "DequantizeLinear") if n.inputs[0].is_initializer())
    node.attributes["axis"] = ir.AttrInt64("axis", 0)


def break_table(graph: ir.Graph) -> None:
    table = graph.initializers["embeddings.word_embeddings.weight"]
    table.const_value = ir.tensor(np.zeros(table.shape.numpy(), np.int8), name=table.name)
    table.type = ir.TensorType(ir.DataType.INT8)


def break_positive(graph: ir.Graph) -> None:
    node = nodes(graph, "QuantizeLinear")[0]
    node.replace_input_with(1, initializer(graph, "nothing", np.array(0, np.float32)))


def break_default(graph: ir.Graph) -> None:
    nodes(graph, "QuantizeLinear")[0].resize_inputs(2)


def break_channels(graph: ir.Graph) -> None:
    node = nodes(graph, "QuantizeLinear")[0]
    node.replace_input_with(1, initializer(graph, "steps", np.full(32, 0.5, np.float32)))


def break_computed(graph: ir.Graph) -> None:
    node = nodes(graph, "QuantizeLinear")[0]
    node.replace_input_with(1, insert(node, "Abs", [node.inputs[1]], name="computed", dtype=ir.DataType.FLOAT))


def break_reader(graph: ir.Graph) -> None:
    node = nodes(graph, "QuantizeLinear")[0]
    reader = ir.node("Identity", [node.outputs[0]], name="reader")
    graph.insert_after(node, reader)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (break_table, "reads integers"),
        (break_zero_point, "zero point 3, 0 is needed"),
        (break_unsigned, "uint8, int8 is needed"),
        (break_half, "first input is not quantized"),
        (break_step, "another scale than"),
        (break_axis, "one scale per row"),
        (break_positive, "a scale is not a positive number"),
        (break_default, "without a zero point it makes uint8"),
        (break_channels, "32 scales for an activation"),
        (break_computed, "its scale is computed"),
        (break_reader, "Identity reader reads int8 itself"),
    ],
)
def test_what_tensorrt_does_not_fuse_is_found(change, message: str, canonical) -> None:
    model = canonical("bert")
    quantize(model, batch(model))
    assert problems_of(model.graph) == []
    change(model.graph)
    assert any(message in problem for problem in problems_of(model.graph))


def test_a_projection_that_stays_in_float_is_no_problem(canonical) -> None:
    """Beside others that are quantized: a recipe may keep it."""
    model = canonical("bert")
    quantize(model, batch(model))
    node = next(n for n in nodes(model.graph, "MatMul") if n.inputs[1].producer() is not None and is_projection(n))
    break_half(model.graph)
    weight = node.inputs[1].producer().inputs[0]  # type: ignore[union-attr]
    assert weight is not None and weight.shape is not None
    node.replace_input_with(1, initializer(model.graph, "kept", np.ones(weight.shape.numpy(), np.float32)))
    assert problems_of(model.graph) == []


def test_a_quantized_graph_that_would_not_be_int8_is_refused(canonical) -> None:
    model = canonical("bert")
    feeds = batch(model)
    quantize(model, feeds)
    break_half(model.graph)
    with pytest.raises(TargetError, match="first input is not quantized"):
        lowered(model, "fp32", feeds)


@pytest.mark.parametrize(("bits", "block"), [(8, None), (4, 16)])
def test_build_check_not_an_execution_check_of_weights_alone(
    bits: int, block: int | None, canonical, tmp_path: Path
) -> None:
    model = canonical("bert")
    feeds = batch(model)
    names = {p.weight for b in read_anatomy(model).blocks for p in b.projections}
    weights = {n: constant(model.graph.initializers[n]) for n in names}
    QuantizeWeights({n: nearest(w, bits=bits, block=block) for n, w in weights.items() if w is not None})(model)
    wanted = run(model, feeds)
    lowered(model, "fp16", feeds)
    assert within("fp16", run(model, feeds), wanted)
    if MISSING is None:
        ir.save(model, tmp_path / "m.onnx")
        build_engine("tensorrt_rtx", tmp_path / "m.onnx", PROFILE, BuildSettings(("sm_89",)), tmp_path / "m.engine")
