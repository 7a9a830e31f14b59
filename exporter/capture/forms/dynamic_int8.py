"""Read matmuls whose activations are quantized at run time by one range for the whole batch, and whose weights are 8-bit integers.

The integers of the weights are kept. That rounding of activations is left out: it makes the answer to one text depend on the
other texts of its batch. Source: ONNX operator specification, DynamicQuantizeLinear and MatMulInteger; ONNX Runtime's contrib
operators DynamicQuantizeMatMul and MatMulIntegerToFloat.
"""

import numpy as np
import onnx_ir as ir

from ...graph.edit import constant, insert, nodes, producer
from .base import FLOAT, Form, Reading, drop, finish, given, only_reader, op, operators

ROUNDING = "the rounding of activations to 8 bits at run time, by one range for a whole batch"


def read(reading: Reading, found: list[ir.Node]) -> None:
    """Rewrite each to a float MatMul by the weight that its integers stand for."""
    for node in found:
        if node.op_type == "DynamicQuantizeLSTM":
            raise reading.refuse(node, "a quantized recurrent layer, and only Transformers are read")
        if node.op_type in ("MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"):
            {"MatMulInteger": _integer, "DynamicQuantizeMatMul": _dynamic, "MatMulIntegerToFloat": _to_float}[
                node.op_type
            ](reading, node)
    for node in nodes(reading.graph, "DynamicQuantizeLinear"):
        _unrounded_lookups(reading, node)


def activation(
    reading: Reading, node: ir.Node, value: ir.Value | None, scale: ir.Value | None, zero: ir.Value | None
) -> ir.Value:
    """Return an activation of `node` in float: before it was quantized at run time, or dequantized from its static range."""
    there = producer(value, "DynamicQuantizeLinear")
    if there is not None and there.inputs[0] is not None:
        if scale is not there.outputs[1]:
            raise reading.refuse(node, "its scale is not that of the activation it multiplies")
        reading.rounds(ROUNDING)
        return there.inputs[0]
    if value is None or scale is None:
        raise reading.refuse(node, "it lacks an input: the file is damaged")
    return insert(
        node,
        "DequantizeLinear",
        [v for v in (value, scale, zero) if v is not None],
        name=f"{node.outputs[0].name}.{value.name}.float",
        dtype=FLOAT,
    )


def weight(
    reading: Reading, node: ir.Node, indices: tuple[int, int, int], scale: np.ndarray | None = None, *, axis: int = 1
) -> ir.Value:
    """Return the float weight of the inputs at `indices`: integers `[in, out]`, scale and zero point, per tensor or along `axis`.

    `scale` is given where it is no input of the node. SourceError where the integers are not 8-bit.
    """
    q = reading.array(node, indices[0], "weight")
    if q.dtype not in (np.int8, np.uint8) or q.ndim != 2:
        raise reading.refuse(
            node, f"its weight is {q.dtype} with {q.ndim} axes, and matrices of 8-bit integers are read"
        )
    scale = reading.array(node, indices[1], "scale of the weight") if scale is None else scale
    zero = constant(given(node, indices[2]))
    if zero is None and given(node, indices[2]) is not None:
        raise reading.refuse(node, "the zero point of its weight is computed at run time")
    source = given(node, indices[0])
    assert source is not None
    return reading.weight(node, str(source.name), q, _flat(scale), None if zero is None else _flat(zero), axis=axis)


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1) if array.ndim > 1 and array.size == max(array.shape) else array


def _integer(reading: Reading, node: ir.Node) -> None:
    """Read `Cast(MatMulInteger(q, w)) * (step * scale)`; both factors may be constants, or come one after the other."""
    steps = {o: p for o in (0, 1) if (p := producer(node.inputs[o], "DynamicQuantizeLinear")) is not None}
    wanted = [p.outputs[1] for p in steps.values()]
    cast = only_reader(node.outputs[0])
    if 0 not in steps or cast is None or cast.op_type != "Cast":
        raise reading.refuse(
            node, "its activation is not quantized by DynamicQuantizeLinear and scaled behind it, which alone is read"
        )
    if len(set(wanted)) < len(wanted):
        raise reading.refuse(node, "it multiplies an activation by itself")
    last, factors = _scaled(cast, wanted)
    constants = _constants(factors)
    counted = [f for f in factors if f in wanted]
    if sorted(map(id, counted)) != sorted(map(id, wanted)) or (len(steps) == 1 and not constants):
        raise reading.refuse(node, "its result is not multiplied by the scales of its activation and its weight")
    scale = np.array(1, np.float32)
    for factor in constants:
        scale = (scale * factor).astype(np.float32)
    if scale.ndim > 1 and scale.size != scale.shape[-1]:
        raise reading.refuse(node, "the scales of its weight do not run along the outputs")
    reading.rounds(ROUNDING)
    if 1 in steps:
        product = op(node, "MatMul", [steps[0].inputs[0], steps[1].inputs[0]], "float")
        if scale.ndim or scale != 1:
            product = op(node, "Mul", [product, reading.floats(f"{node.outputs[0].name}.scale", scale)], "scaled")
    else:
        matrix = weight(reading, node, (1, 1, 3), scale.reshape(-1) if scale.ndim else scale)
        product = op(node, "MatMul", [steps[0].inputs[0], matrix], "float")
    finish(last, product)


def _scaled(cast: ir.Node, wanted: list[ir.Value]) -> tuple[ir.Node, list[ir.Value]]:
    """Return the last of the multiplications behind a cast that only scale, and what they multiply by."""
    last, factors = cast, list[ir.Value]()
    while not (set(wanted) <= set(factors) and (len(wanted) == 2 or _constants(factors))):
        following = only_reader(last.outputs[0])
        if following is None or following.op_type != "Mul":
            break
        more = _factors(following.inputs[1] if following.inputs[0] is last.outputs[0] else following.inputs[0])
        if not all(f in wanted or constant(f) is not None for f in more):
            break
        factors += more
        last = following
    return last, factors


def _factors(value: ir.Value | None) -> list[ir.Value]:
    """Return what a factor is the product of."""
    node = producer(value, "Mul")
    if node is None:
        return [value] if value is not None else []
    return [f for v in node.inputs for f in _factors(v)]


def _constants(factors: list[ir.Value]) -> list[np.ndarray]:
    return [array for f in factors if (array := constant(f)) is not None]


def _dynamic(reading: Reading, node: ir.Node) -> None:
    reading.rounds(ROUNDING)
    _close(
        reading, node, op(node, "MatMul", [node.inputs[0], weight(reading, node, (1, 2, 3))], "float"), given(node, 4)
    )


def _to_float(reading: Reading, node: ir.Node) -> None:
    a = activation(reading, node, given(node, 0), given(node, 2), given(node, 4))
    b = weight(reading, node, (1, 3, 5))
    _close(reading, node, op(node, "MatMul", [a, b], "float"), given(node, 6))


def _close(reading: Reading, node: ir.Node, product: ir.Value, bias: ir.Value | None) -> None:
    """Add the bias, put the result in the place of the node's, and remove the node."""
    finish(node, op(node, "Add", [product, bias], "biased") if bias is not None else product)
    drop(reading, node)


def _unrounded_lookups(reading: Reading, node: ir.Node) -> None:
    """Read an activation that is quantized and dequantized again as it was."""
    for back in [n for n in nodes(reading.graph, "DequantizeLinear") if n.inputs[0] is node.outputs[0]]:
        assert node.inputs[0] is not None
        reading.rounds(ROUNDING)
        finish(back, node.inputs[0])


FORM = Form(
    1,
    operators("DynamicQuantizeLinear", "MatMulInteger", domain="")
    | operators("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeLSTM"),
    read,
)
