"""Lower matmuls with quantized weights to the operators that ONNX Runtime runs fastest; none is left to its optimizer.

Activations quantized per token become Headway's own `QuantizedLinear` and `QuantizedFeedForward`, which include bias, activation
function and residual. Activations with static ranges become the runtime's `MatMulIntegerToFloat`, int4 weights in blocks its
`MatMulNBits`. Weights that only save bytes stay behind `DequantizeLinear`, which the runtime folds while loading.

The rewriting is our own, and not rules of `onnxscript.rewriter`, which number the nodes that they make; here nodes keep the names of
their layers. One matmul takes in up to four optional neighbors, each only where nothing else reads between them: a rule would be needed
for every combination, around the same Python conditions.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ....errors import TargetError
from ...graph.edit import (
    attribute_string,
    bias_add,
    bias_of,
    constant,
    initializer,
    is_vector,
    nodes,
    producer,
    put,
    read_once,
    remove_unused,
)
from ...graph.quantized import DOMAIN, TOKENS, quantized_weight_of, shifted_weight_of
from .linear_fusion import layer_of, next_layer

CONTRIB = "com.microsoft"


@dataclass
class Matmuls:
    """How many matmuls became which operator."""

    quantized_linear: int = 0
    quantized_feed_forward: int = 0
    static_int8: int = 0
    int4: int = 0
    weight_only: int = 0


def lower_matmuls(model: ir.Model, *, kernels: bool, nibbles: bool = True, unsigned: bool = False) -> Matmuls:
    """Lower every matmul with quantized weights, in place. Raise TargetError where one needs the kernels and there are none.

    Without `nibbles`, int4 weights stay behind `DequantizeLinear`: for runtimes where `MatMulNBits` is slower than a float matmul.
    With `unsigned`, weights that meet quantized activations are stored as uint8 around 128: no processor's sums of such products
    saturate.
    """
    graph = model.graph
    counts = Matmuls()
    for node in nodes(graph, "MatMul"):
        matrix = quantized_weight_of(node)
        if matrix is None:
            shifted = shifted_weight_of(node)
            if shifted is not None:
                _with_zero_points(node, shifted, counts, nibbles)
            continue
        if producer(node.inputs[0], TOKENS) is not None:
            if not kernels:
                raise TargetError(
                    f"node {node.name!r}: activations quantized per token need Headway's kernels; ask for static ranges, or for the kernels"
                )
            _linear(node, *matrix)
            counts.quantized_linear += 1
        elif (q := _static_input(node)) is not None:
            _static(node, q, *matrix, unsigned)
            counts.static_int8 += 1
        elif nibbles and _in_nibbles(node, *matrix):
            counts.int4 += 1
        else:
            counts.weight_only += 1
    remove_unused(model)  # quantization that went into an operator would still count as a reader
    for node in nodes(graph, "QuantizedLinear"):
        if _feed_forward(node):
            counts.quantized_feed_forward += 1
            counts.quantized_linear -= 2
    if counts.quantized_linear or counts.quantized_feed_forward:
        graph.opset_imports[DOMAIN] = 1
    for identifier in [i for i in model.functions if i[:2] == (DOMAIN, TOKENS)]:
        del model.functions[identifier]
    return counts


def _linear(node: ir.Node, q: ir.Value, scale: ir.Value) -> None:
    """Fuse one matmul per token with the bias, the activation function and the residual after it, where nothing else reads between."""
    tokens = producer(node.inputs[0], TOKENS)
    assert tokens is not None
    layer = layer_of(node)
    x, factors = _undivided(tokens.inputs[0])
    inputs = [x, q, scale, layer.bias, layer.residual, factors]
    put(layer.last, layer.result, "QuantizedLinear", inputs, domain=DOMAIN, activation=layer.activation)


def _undivided(value: ir.Value | None) -> tuple[ir.Value | None, ir.Value | None]:
    """Return a value before its channels were multiplied by a trained vector, and that vector."""
    divided = producer(value, "Mul")
    factors = divided.inputs[1] if divided is not None else None
    if divided is None or not is_vector(factors):
        return value, None
    return divided.inputs[0], factors


def _feed_forward(up: ir.Node) -> bool:
    """Fuse two linear layers with nothing but an activation function between; return whether that was possible."""
    down = next_layer(up, bias=3)
    if down is None:
        return False
    (_, residual, factors_down), factors_up = _rest(down), _rest(up)[2]
    inputs = [*up.inputs[:4], *down.inputs[1:4], residual, factors_up, factors_down]
    put(
        down,
        down.outputs[0],
        "QuantizedFeedForward",
        inputs,
        domain=DOMAIN,
        activation=attribute_string(up, "activation"),
    )
    return True


def _rest(linear: ir.Node) -> tuple[ir.Value | None, ir.Value | None, ir.Value | None]:
    """Return bias, residual and factors of a `QuantizedLinear`."""
    bias, residual, factors = (*linear.inputs[3:], None, None, None)[:3]
    return bias, residual, factors


def _static_input(node: ir.Node) -> ir.Node | None:
    """Return the DequantizeLinear of the quantized activations that a matmul reads; None where they are not quantized."""
    back = producer(node.inputs[0], "DequantizeLinear")
    return back if back is not None and producer(back.inputs[0], "QuantizeLinear") is not None else None


def _static(node: ir.Node, back: ir.Node, q: ir.Value, scale: ir.Value, unsigned: bool) -> None:
    """Replace a matmul by `MatMulIntegerToFloat`, with the bias where there is one."""
    _unsigned_activations(back)
    result, bias = node.outputs[0], None
    add = bias_add(node)
    if add is not None and read_once(result):
        bias, result = bias_of(add), add.outputs[0]
    last = result.producer()
    assert last is not None
    integers, step, zero = back.inputs[0], back.inputs[1], back.inputs[2] if len(back.inputs) > 2 else None
    weights = _unsigned_weights(q) if unsigned else (q, None)
    inputs = [integers, weights[0], step, scale, zero, weights[1], bias]
    put(last, result, "MatMulIntegerToFloat", inputs, domain=CONTRIB)


def _unsigned_weights(q: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return int8 weights as uint8, 128 higher, and their zero point."""
    array, graph = constant(q), q.graph
    assert array is not None and graph is not None
    shifted = initializer(graph, f"{q.name}.unsigned", (array.astype(np.int16) + 128).astype(np.uint8))
    return shifted, initializer(graph, "unsigned_zero_point", np.array(128, np.uint8))


def _unsigned_activations(back: ir.Node) -> None:
    """Store quantized activations that are int8 as uint8, 128 higher: the same numbers.

    Where products of bytes are told to be exact on x86 without VNNI, ONNX Runtime makes int8 weights uint8, and has no product of
    int8 activations by those. Elsewhere x86 multiplies uint8 by int8 fastest.
    """
    integers = back.inputs[0]
    quantize = producer(integers, "QuantizeLinear")
    assert quantize is not None and integers is not None
    zero = quantize.inputs[2] if len(quantize.inputs) > 2 else None
    origin, readers = constant(zero), [node for node, _ in integers.uses()]
    if zero is None or origin is None or origin.dtype != np.int8:
        return
    if any(node.op_type != "DequantizeLinear" or node.inputs[2] is not zero for node in readers):
        return
    graph = back.graph
    assert isinstance(graph, ir.Graph)
    shifted = initializer(graph, f"{zero.name}.unsigned", (origin.astype(np.int16) + 128).astype(np.uint8))
    for node in (quantize, *readers):
        node.replace_input_with(2, shifted)
    integers.type = ir.TensorType(ir.DataType.UINT8)


def _with_zero_points(
    node: ir.Node, weight: tuple[ir.Value, ir.Value, ir.Value | None], counts: Matmuls, nibbles: bool
) -> None:
    """Lower a matmul whose weight has zero points, which come with float activations alone."""
    if producer(node.inputs[0], TOKENS) is not None or _static_input(node) is not None:
        raise TargetError(f"node {node.name!r}: weights with zero points are not multiplied by quantized activations")
    if nibbles and _in_nibbles(node, *weight):
        counts.int4 += 1
    else:
        counts.weight_only += 1


def _in_nibbles(node: ir.Node, q: ir.Value, scale: ir.Value, zero: ir.Value | None = None) -> bool:
    """Replace a matmul by `MatMulNBits`; return False where its weights are not int4 in blocks of a size that the operator takes.

    Weights and zero points are packed per output channel, low nibble first.
    """
    array, steps = constant(q), constant(scale)
    assert array is not None and steps is not None
    rows, columns = array.shape
    block = rows // len(steps) if steps.ndim == 2 else 0
    if q.dtype != ir.DataType.INT4 or block < 16 or block & (block - 1):
        return False
    packed = _packed(array.T).reshape(columns, rows // block, block // 2)
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    inputs = [
        node.inputs[0],
        initializer(graph, f"{q.name}.packed", np.ascontiguousarray(packed)),
        initializer(graph, f"{scale.name}.packed", np.ascontiguousarray(steps.T).reshape(-1)),
    ]
    zeros = constant(zero)
    if zero is not None and zeros is not None:
        inputs.append(initializer(graph, f"{zero.name}.packed", _packed(zeros.T).reshape(-1)))
    put(node, node.outputs[0], "MatMulNBits", inputs, domain=CONTRIB, K=rows, N=columns, bits=4, block_size=block)
    return True


def _packed(array: np.ndarray) -> np.ndarray:
    """Return int4 numbers as uint8, two in each along the last axis, around 8; a last one that has no partner gets 8."""
    levels = (array.astype(np.int16) + 8).astype(np.uint8)
    if levels.shape[-1] % 2:
        levels = np.pad(levels, ((0, 0), (0, 1)), constant_values=8)
    return np.ascontiguousarray(levels[..., 0::2] | (levels[..., 1::2] << 4))
