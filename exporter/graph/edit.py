"""Small questions and edits on `onnx_ir` graphs that every pass asks."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from .names import module_of_weight


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that makes `value`, if its op type is one of `op_types` (any, when none is given)."""
    node = value.producer() if value is not None else None
    if node is None or (op_types and node.op_type not in op_types):
        return None
    return node


def consumers(value: ir.Value) -> list[ir.Node]:
    """Distinct nodes that read `value`."""
    return list(dict.fromkeys(use.node for use in value.uses()))


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array behind an initializer or a Constant node; None for anything computed."""
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """The single number that `value` holds, or None."""
    array = constant(value) if value is not None and _is_small(value) else None
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _is_small(value: ir.Value) -> bool:
    tensor = value.const_value
    return tensor is None or tensor.size <= 16


def is_projection(node: ir.Node | None) -> bool:
    """True for a MatMul by a trained matrix, transposed at run time or not."""
    if node is None or node.op_type != "MatMul":
        return False
    return projection_weight(node) is not None


def projection_weight(node: ir.Node) -> ir.Value | None:
    """The trained matrix of a MatMul: its second input, or what a Transpose or a dequantization there reads."""
    weight = node.inputs[1]
    while weight is not None and not weight.is_initializer():
        made = producer(weight, "Transpose", "DequantizeLinear", "Cast", "Identity")
        weight = made.inputs[0] if made is not None else None
    return weight


def bias_add(product: ir.Node) -> ir.Node | None:
    """The Add of a trained vector to a product's result, if there is one."""
    return next(
        (n for n in consumers(product.outputs[0]) if n.op_type == "Add" and any(map(is_vector, n.inputs))), None
    )


def is_vector(value: ir.Value | None) -> bool:
    """True for a trained vector: a bias, or the weight of a norm."""
    return value is not None and value.is_initializer() and len(dims(value) or ()) == 1


def bias_of(add: ir.Node | None) -> ir.Value | None:
    """The trained vector that an Add adds."""
    return next((v for v in add.inputs if is_vector(v)), None) if add is not None else None


def module_of(node: ir.Node) -> str | None:
    """The Hugging Face module nearest to a node: of a weight it reads, or of what reads its results; None where neither reads one."""
    nearby = (*node.inputs, *(v for o in node.outputs for reader in consumers(o) for v in reader.inputs))
    return module_of_weight(str(v.name) for v in nearby if v is not None and v.is_initializer())


def first_of(graph: ir.Graph, wanted: Collection[ir.Node]) -> ir.Node:
    """The one of these nodes that runs first."""
    return next(n for n in graph if n in wanted)


def attribute(node: ir.Node, name: str, default: object = None) -> object:
    """An attribute's value, `default` where the node has none of that name."""
    attr = node.attributes.get(name)
    return default if attr is None else attr.value


def dims(value: ir.Value | None) -> list[int | None] | None:
    """Shape with None for every symbolic dimension; None where the rank is unknown."""
    if value is None or value.shape is None:
        return None
    return [d if isinstance(d, int) else None for d in value.shape]


def sequence_axis(value: ir.Value) -> int | None:
    """The axis that runs along the sequence; None where none does."""
    shape = [d if isinstance(d, int) else d.value for d in value.shape or ()]
    return shape.index("sequence") if "sequence" in shape else None


def other_input(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """Of a two-input node, the input that is not `value`."""
    first, second = node.inputs
    return second if first is value else first


def initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """Registers `array` under `name`; an equal one already there is reused."""
    found = graph.initializers.get(name)
    if found is not None:
        known = constant(found)
        if known is None or not np.array_equal(known, array):
            raise ValueError(f"initializer {name!r} exists with another value")
        return found
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
    **attributes: object,
) -> ir.Value:
    """Puts one node before `before`; returns its first output, called `name`."""
    node = ir.node(op_type, inputs, attributes=attributes, domain=domain, num_outputs=outputs, name=name)  # type: ignore[arg-type]
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


def replace(old: ir.Value, new: ir.Value) -> None:
    """Every reader of `old`, graph outputs included, reads `new` instead."""
    if new.shape is None:
        new.shape = old.shape
    if new.type is None:
        new.type = old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


def take_over(old: ir.Value, new: ir.Value) -> None:
    """`new` stands in for `old` under its name, which callers and verification know."""
    replace(old, new)
    new.name, old.name = old.name, f"{old.name}.whole"


def put(
    at: ir.Node, result: ir.Value, op_type: str, inputs: Sequence[ir.Value | None], *, domain: str, **attributes: Any
) -> ir.Node:
    """Puts one operator before `at` in the place of all that made `result`, under its name.

    Inputs that are None at the end are left out. Returns the new node, with one output.
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
    """True where one node reads a value and it is no output of the graph."""
    return len(consumers(value)) == 1 and not value.is_graph_output()


def same_shape(value: ir.Value | None, other: ir.Value) -> bool:
    """True for a computed value of the same sizes as another: a residual, not something that is broadcast."""
    return value is not None and not value.is_initializer() and value.shape is not None and value.shape == other.shape


def ancestors(value: ir.Value, stop: Collection[ir.Value] = (), *, by_shape: bool = True) -> Iterator[ir.Value]:
    """`value` and everything it is computed from, nearest first; not past a value in `stop`.

    With `by_shape=False` what matters only through its shape is left out.
    """

    def inputs(current: ir.Value) -> Iterable[ir.Value | None]:
        node = current.producer()
        return node.inputs if node and current not in stop and (by_shape or node.op_type != "Shape") else ()

    return reach(value, inputs)


def reach(value: ir.Value, onward: Callable[[ir.Value], Iterable[ir.Value | None]]) -> Iterator[ir.Value]:
    """`value` and where `onward` leads from it, step by step: nearest first, each once."""
    seen, queue = {value}, deque([value])
    while queue:
        yield (current := queue.popleft())
        for following in onward(current):
            if following is not None and following not in seen:
                seen.add(following)
                queue.append(following)


def nodes(graph: ir.Graph, *op_types: str) -> list[ir.Node]:
    """A stable list of the graph's nodes of these types: safe to iterate while editing."""
    return [n for n in graph if not op_types or n.op_type in op_types]


def remove_unused(model: ir.Model) -> None:
    """Drops nodes and initializers that nothing reads; graph inputs stay."""
    common.RemoveUnusedNodesPass()(model)
