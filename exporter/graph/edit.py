"""Query and edit `onnx_ir` graphs: small functions that every pass uses."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from ...errors import SourceError
from .names import module_of_weight


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """Return the node that computes `value`, if its op type is one of `op_types` (any, where none is given)."""
    node = value.producer() if value is not None else None
    if node is None or (op_types and node.op_type not in op_types):
        return None
    return node


def consumers(value: ir.Value) -> list[ir.Node]:
    """Return the distinct nodes that read `value`."""
    return list(dict.fromkeys(use.node for use in value.uses()))


def constant(value: ir.Value | None) -> np.ndarray | None:
    """Return the array of an initializer or a Constant node; None for anything computed."""
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """Return the single number that `value` holds, or None."""
    array = constant(value) if value is not None and _is_small(value) else None
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _is_small(value: ir.Value) -> bool:
    tensor = value.const_value
    return tensor is None or tensor.size <= 16


def is_projection(node: ir.Node | None) -> bool:
    """Return True for a MatMul by a trained weight, transposed at run time or not."""
    if node is None or node.op_type != "MatMul":
        return False
    return projection_weight(node) is not None


def projection_weight(node: ir.Node) -> ir.Value | None:
    """Return the trained weight of a MatMul: its second input, or what a Transpose or a dequantization there reads."""
    weight = node.inputs[1]
    while weight is not None and not weight.is_initializer():
        node_before = producer(weight, "Transpose", "DequantizeLinear", "Cast", "Identity")
        weight = node_before.inputs[0] if node_before is not None else None
    return weight


def bias_add(matmul: ir.Node) -> ir.Node | None:
    """Return the Add of a trained vector to a matmul's result, if there is one."""
    return next((n for n in consumers(matmul.outputs[0]) if n.op_type == "Add" and any(map(is_vector, n.inputs))), None)


def is_vector(value: ir.Value | None) -> bool:
    """Return True for a trained vector: a bias, or the weight of a norm."""
    return value is not None and value.is_initializer() and len(dims(value) or ()) == 1


def bias_of(add: ir.Node | None) -> ir.Value | None:
    """Return the trained vector that an Add adds."""
    return next((v for v in add.inputs if is_vector(v)), None) if add is not None else None


def module_of(node: ir.Node) -> str | None:
    """Return the Hugging Face module nearest to a node: of a weight that it reads, or that a reader of its results reads; or None."""
    nearby = (*node.inputs, *(v for o in node.outputs for reader in consumers(o) for v in reader.inputs))
    return module_of_weight(str(v.name) for v in nearby if v is not None and v.is_initializer())


def first_of(graph: ir.Graph, wanted: Collection[ir.Node]) -> ir.Node:
    """Return the node that runs first."""
    return next(n for n in graph if n in wanted)


def attribute_int(node: ir.Node, name: str, default: int | None = None) -> int:
    """Return an integer attribute, or `default`. Raise SourceError where the node lacks it and there is no default."""
    return int(_attribute(node, name, default))


def attribute_float(node: ir.Node, name: str, default: float | None = None) -> float:
    """Return a float attribute, or `default`. Raise SourceError where the node lacks it and there is no default."""
    return float(_attribute(node, name, default))


def attribute_string(node: ir.Node, name: str, default: str | None = None) -> str:
    """Return a string attribute, or `default`. Raise SourceError where the node lacks it and there is no default."""
    return str(_attribute(node, name, default))


def attribute_ints(node: ir.Node, name: str, default: Sequence[int] | None = None) -> list[int]:
    """Return a list attribute, or `default`. Raise SourceError where the node lacks it and there is no default."""
    return [int(item) for item in _attribute(node, name, default)]


def optional_int(node: ir.Node, name: str) -> int | None:
    """Return an integer attribute, or None where the node lacks it."""
    return attribute_int(node, name) if name in node.attributes else None


def optional_float(node: ir.Node, name: str) -> float | None:
    """Return a float attribute, or None where the node lacks it."""
    return attribute_float(node, name) if name in node.attributes else None


def _attribute(node: ir.Node, name: str, default: Any) -> Any:
    attr = node.attributes.get(name)
    if attr is not None:
        return attr.value
    if default is None:
        raise SourceError(f"node {node.name!r} ({node.op_type}) lacks its attribute {name!r}: the file is damaged")
    return default


def dims(value: ir.Value | None) -> list[int | None] | None:
    """Return the shape with None for every symbolic dimension; None where the rank is unknown."""
    if value is None or value.shape is None:
        return None
    return [d if isinstance(d, int) else None for d in value.shape]


def sequence_axis(value: ir.Value) -> int | None:
    """Return the axis of the sequence; None where there is none."""
    shape = [d if isinstance(d, int) else d.value for d in value.shape or ()]
    return shape.index("sequence") if "sequence" in shape else None


def other_input(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """Return the input of a two-input node that is not `value`."""
    first, second = node.inputs
    return second if first is value else first


def initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """Register `array` under `name`, or return the equal initializer of that name. ValueError where it differs."""
    existing = graph.initializers.get(name)
    if existing is not None:
        known = constant(existing)
        if known is None or not np.array_equal(known, array):
            raise ValueError(f"initializer {name!r} exists with another value")
        return existing
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        const_value=ir.Tensor(array, name=name),
    )
    graph.register_initializer(value)
    return value


def insert(
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    *,
    name: str,
    outputs: int = 1,
    domain: str = "",
    dtype: ir.DataType | None = None,
    shape: Iterable[int | str | ir.SymbolicDim | None] | None = None,
    **attributes: Any,
) -> ir.Value:
    """Insert one node before `before`; return its first output, called `name`."""
    node = ir.node(op_type, inputs, attributes=attributes, domain=domain, num_outputs=outputs, name=name)
    for i, out in enumerate(node.outputs):
        out.name = name if outputs == 1 else f"{name}.{i}"
        if dtype is not None:
            out.type = ir.TensorType(dtype)
        if shape is not None:
            out.shape = ir.Shape(list(shape))
    graph = before.graph
    assert isinstance(graph, ir.Graph)
    graph.insert_before(before, node)
    return node.outputs[0]


def cast_back(graph: ir.Graph, half: ir.Value, readers: Sequence[ir.Node], name: str) -> None:
    """Insert a Cast called `name`, so that the readers of a value in 16 bits read it as float32."""
    shape = list(half.shape) if half.shape is not None else None
    to = ir.DataType.FLOAT
    back = insert(first_of(graph, readers), "Cast", [half], name=name, dtype=to, shape=shape, to=int(to))
    for reader in readers:
        for i, read in enumerate(reader.inputs):
            if read is half:
                reader.replace_input_with(i, back)


def replace(old: ir.Value, new: ir.Value) -> None:
    """Make every reader of `old`, graph outputs included, read `new` instead."""
    if new.shape is None:
        new.shape = old.shape
    if new.type is None:
        new.type = old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


def take_over(old: ir.Value, new: ir.Value) -> None:
    """Put `new` in the place of `old`, under its name, which callers and verification know."""
    replace(old, new)
    new.name, old.name = old.name, f"{old.name}.whole"


def put(
    at: ir.Node, result: ir.Value, op_type: str, inputs: Sequence[ir.Value | None], *, domain: str, **attributes: Any
) -> ir.Node:
    """Insert one operator before `at` in the place of all that computed `result`, under its name.

    Inputs that are None at the end are left out. Return the new node, which has one output.
    """
    given = list(inputs)
    while given and given[-1] is None:
        given.pop()
    dtype = result.dtype or ir.DataType.FLOAT
    new = insert(at, op_type, given, name=f"{result.name}.lowered", domain=domain, dtype=dtype, **attributes)
    take_over(result, new)
    node = new.producer()
    assert node is not None
    return node


def read_once(value: ir.Value) -> bool:
    """Return True where one node reads a value and it is no output of the graph."""
    return len(consumers(value)) == 1 and not value.is_graph_output()


def same_shape(value: ir.Value | None, other: ir.Value) -> bool:
    """Return True for a computed value of the same shape as another: a residual, not something that is broadcast."""
    return value is not None and not value.is_initializer() and value.shape is not None and value.shape == other.shape


def ancestors(value: ir.Value, stop: Collection[ir.Value] = (), *, by_shape: bool = True) -> Iterator[ir.Value]:
    """Yield `value` and everything it is computed from, nearest first; not past a value in `stop`.

    With `by_shape=False`, values that matter only through their shape are left out.
    """

    def inputs(current: ir.Value) -> Iterable[ir.Value | None]:
        node = current.producer()
        return node.inputs if node and current not in stop and (by_shape or node.op_type != "Shape") else ()

    return reach(value, inputs)


def reach(value: ir.Value, onward: Callable[[ir.Value], Iterable[ir.Value | None]]) -> Iterator[ir.Value]:
    """Yield `value` and where `onward` leads from it, step by step: nearest first, each once."""
    visited, queue = {value}, deque([value])
    while queue:
        yield (current := queue.popleft())
        for following in onward(current):
            if following is not None and following not in visited:
                visited.add(following)
                queue.append(following)


def nodes(graph: ir.Graph, *op_types: str) -> list[ir.Node]:
    """Return a list of the graph's nodes of these types (all, where none is given), safe to iterate while editing."""
    return [n for n in graph if not op_types or n.op_type in op_types]


def remove_unused(model: ir.Model) -> None:
    """Remove nodes and initializers that nothing reads; graph inputs stay."""
    common.RemoveUnusedNodesPass()(model)
