"""Scales of a source: taken off its graph, and put back on the canonical one."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from headway.errors import SourceError
from headway.exporter.graph.edit import nodes
from headway.exporter.graph.source_rounding import drop_inner_rounding, put_rounding, take_rounding
from headway.exporter.passes.quantize import QuantizeRecurrent

from tests.support.lstms import INPUT_WEIGHTS, STATE_WEIGHTS, both, lstm
from tests.support.one_node import model_of

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4)).astype(np.float32)


def constant(name: str, array: np.ndarray) -> ir.Value:
    return ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        const_value=ir.Tensor(array, name=name),
    )


def quantized_model(zero: int = 0) -> ir.Model:
    """`Relu(Q(x) W)` with a pair before the matmul, int8 weights, and a pair on the result, which nothing here keeps."""
    x = ir.Value(name="x", shape=ir.Shape(X.shape), type=ir.TensorType(ir.DataType.FLOAT))
    step, origin = constant("step", np.float32(0.02)), constant("origin", np.array(128, np.uint8))
    weights = [
        constant("w_quantized", RNG.integers(-127, 128, (4, 5)).astype(np.int8)),
        constant("w_scale", (RNG.random(5) + 0.5).astype(np.float32) / 127),
        constant("w_zero", np.full(5, zero, np.int8)),
    ]
    operators: list[ir.Node] = []

    def op(op_type: str, *inputs: ir.Value, name: str, **attributes: int) -> ir.Value:
        node = ir.node(op_type, list(inputs), attributes=attributes, name=name)
        node.outputs[0].name = name
        operators.append(node)
        return node.outputs[0]

    q = op("QuantizeLinear", x, step, origin, name="q")
    back = op("DequantizeLinear", q, step, origin, name="dq")
    weight = op("DequantizeLinear", *weights, name="w_dq", axis=1)
    out = op("Relu", op("MatMul", back, weight, name="product"), name="relu")
    q = op("QuantizeLinear", out, step, origin, name="q2")
    y = op("DequantizeLinear", q, step, origin, name="y")
    y.shape, y.type = ir.Shape([3, 5]), ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x], [y], nodes=operators, initializers=[step, origin, *weights], opset_imports={"": 23}, name="g")
    return ir.Model(graph, ir_version=10)


def run(model: ir.Model) -> np.ndarray:
    options = onnxruntime.SessionOptions()  # as it is written: the runtime's own rewriting rounds activations, too
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": X})[0]


def test_pairs_go_and_the_floats_they_stand_for_stay() -> None:
    model = quantized_model()
    scale = model.graph.initializers["w_scale"].const_value
    assert scale is not None
    wanted, integers = scale.numpy(), constant_of(model, "w_quantized")
    taken = take_rounding(model)
    assert [n.op_type for n in model.graph] == ["MatMul", "Relu"]
    assert [v.name for v in model.graph.outputs] == ["y"]
    ((weight, noted),) = taken.weights.items()
    assert weight.name == "w" and np.array_equal(noted.scale, wanted) and np.array_equal(noted.q, integers)
    ((step, origin),) = taken.activations.values()
    assert (float(step), int(origin)) == (pytest.approx(0.02), 128)


def test_what_is_put_back_computes_as_the_source() -> None:
    source, model = quantized_model(), quantized_model()
    for m in (source, model):
        array = m.graph.initializers["w_quantized"]
        array.const_value = ir.Tensor(np.arange(-10, 10, dtype=np.int8).reshape(4, 5), name="w_quantized")
        m.graph.initializers["w_scale"].const_value = ir.Tensor(np.full(5, 0.01, np.float32), name="w_scale")
    put_rounding(model, take_rounding(model))
    assert [n.op_type for n in nodes(model.graph, "QuantizeLinear", "DequantizeLinear", "MatMul")].count("MatMul") == 1
    assert len(nodes(model.graph, "QuantizeLinear")) == 1 and len(nodes(model.graph, "DequantizeLinear")) == 2
    assert model.graph.initializers["w"].dtype == ir.DataType.INT8
    unrounded = run(model)
    rounded = np.clip(np.rint(unrounded / 0.02) + 128, 0, 255).astype(np.float32) - 128
    np.testing.assert_allclose(run(source), rounded * np.float32(0.02), atol=0.021)
    assert np.abs(run(source) - rounded * 0.02).mean() < 1e-3


def constant_of(model: ir.Model, name: str) -> np.ndarray:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def test_a_weight_with_another_zero_point_keeps_it_and_its_activation_stays_float() -> None:
    source, model = quantized_model(zero=-100), quantized_model(zero=-100)
    for m in (source, model):
        array = np.array([[-128, 127, 0, -100, 5]] * 4, np.int8)
        m.graph.initializers["w_quantized"].const_value = ir.Tensor(array, name="w_quantized")
        m.graph.initializers["w_scale"].const_value = ir.Tensor(np.full(5, 0.01, np.float32), name="w_scale")
    put_rounding(model, take_rounding(model))
    (back,) = nodes(model.graph, "DequantizeLinear")
    assert not nodes(model.graph, "QuantizeLinear") and len(back.inputs) == 3
    np.testing.assert_array_equal(constant_of(model, "w"), constant_of(source, "w_quantized"))
    np.testing.assert_array_equal(constant_of(model, "w_zero_point"), np.full(5, -100, np.int8))
    levels = constant_of(source, "w_quantized").astype(np.float64) + 100
    np.testing.assert_allclose(
        run(model), np.maximum(X @ (levels * constant_of(source, "w_scale")), 0), rtol=1e-5, atol=1e-5
    )


def test_pairs_elsewhere_than_in_front_of_matmuls_are_dropped_alone() -> None:
    model = quantized_model()
    assert drop_inner_rounding(model) == 1
    assert [n.op_type for n in model.graph] == [
        "QuantizeLinear",
        "DequantizeLinear",
        "DequantizeLinear",
        "MatMul",
        "Relu",
    ]
    assert [v.name for v in model.graph.outputs] == ["y"] and drop_inner_rounding(model) == 0


def test_scales_that_do_not_fit_are_refused_by_name() -> None:
    model = quantized_model()
    model.graph.initializers["w_scale"].const_value = ir.Tensor(np.ones(4, np.float32), name="w_scale")
    with pytest.raises(SourceError, match=r"node 'w_dq' .DequantizeLinear.: scales of shape .4. for 5 channels"):
        take_rounding(model)


@pytest.mark.filterwarnings("ignore:w. stored as integers")
@pytest.mark.parametrize(("shape", "kept"), [((1, 5), True), ((), True), ((5,), True), ((4, 1), False), ((4, 5), None)])
@pytest.mark.parametrize("first", [True, False])
def test_integers_that_are_cast_and_scaled_are_stored_weights(
    shape: tuple[int, ...], kept: bool | None, first: bool
) -> None:
    """A scale for each element is none: such a product stays as it is."""
    x = ir.Value(name="x", shape=ir.Shape(X.shape), type=ir.TensorType(ir.DataType.FLOAT))
    integers = constant("w_q", np.array([[-128, 3, 127, 0, 9]] * 4, np.int8))
    scale = constant("w_scale", np.full(shape, 0.01, np.float32))
    cast = ir.node("Cast", [integers], attributes={"to": int(ir.DataType.FLOAT)}, name="cast")
    pair = [cast.outputs[0], scale] if first else [scale, cast.outputs[0]]
    scaled = ir.node("Mul", pair, name="scaled")
    product = ir.node("MatMul", [x, scaled.outputs[0]], name="product")
    for node in (cast, scaled, product):
        node.outputs[0].name = f"{node.name}.out"
    y = product.outputs[0]
    y.shape, y.type = ir.Shape([3, 5]), ir.TensorType(ir.DataType.FLOAT)
    operators = [cast, scaled, product]
    graph = ir.Graph([x], [y], nodes=operators, initializers=[integers, scale], opset_imports={"": 23}, name="g")
    model = ir.Model(graph, ir_version=10)
    wanted = run(model)
    taken = take_rounding(model)
    assert len(nodes(model.graph)) == (3 if kept is None else 1)
    put_rounding(model, taken)
    assert len(nodes(model.graph, "DequantizeLinear")) == bool(kept)
    np.testing.assert_allclose(run(model), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_a_float_weight_that_is_rounded_at_run_time_keeps_its_name_unless_it_is_read_as_it_is(shared: bool) -> None:
    model = quantized_model()
    graph = model.graph
    back = next(n for n in graph if n.name == "w_dq")
    weight = constant("dense.weight", RNG.standard_normal((4, 5)).astype(np.float32) / 50)
    graph.register_initializer(weight)
    there = ir.node("QuantizeLinear", [weight, back.inputs[1], back.inputs[2]], attributes={"axis": 1}, name="w_q")
    graph.insert_before(back, there)
    back.replace_input_with(0, there.outputs[0])
    if shared:
        product = next(n for n in graph if n.name == "product")
        extra = ir.node("MatMul", [product.inputs[0], weight], name="extra")
        total = ir.node("Add", [product.outputs[0], extra.outputs[0]], name="total")
        graph.insert_after(product, [extra, total])
        next(n for n in graph if n.name == "relu").replace_input_with(0, total.outputs[0])
    taken = take_rounding(model)
    assert [str(w.name) for w in taken.weights] == ["dense.weight.float" if shared else "dense.weight"]
    assert ("dense.weight.float" in graph.initializers) == shared and "dense.weight" in graph.initializers
    assert "dense.weight.unrounded" not in graph.initializers


def test_rows_of_lstms_are_taken_and_put_back() -> None:
    case = lstm()
    model = model_of(case)
    QuantizeRecurrent((INPUT_WEIGHTS, STATE_WEIGHTS))(model)
    wanted = both(model, case)[0]
    taken = take_rounding(model)
    assert not nodes(model.graph, "DequantizeLinear") and len(taken.weights) == 2
    put_rounding(model, taken)
    assert len(nodes(model.graph, "DequantizeLinear")) == 2
    assert max(np.abs(a - b).max() for a, b in zip(both(model, case)[0], wanted, strict=True)) < 1e-6
