"""Take away Reshapes that fold batch and sequence into one axis around operators that treat each token by itself.

GPT-2 multiplies `[batch * sequence, hidden]` by its weights (`Gemm`), and OPT runs its feed-forward on such rows. The canonical
form has a projection as MatMul and Add on `[batch, sequence, hidden]`, which gives the same numbers.
"""

import onnx_ir as ir

from .edit import attribute_float, attribute_int, constant, consumers, dims, insert, nodes, producer, replace

_BY_ELEMENT = (
    "Relu",
    "Gelu",
    "Tanh",
    "Sigmoid",
    "Swish",
    "Mish",
    "Elu",
    "LeakyRelu",
    "HardSwish",
    "Softplus",
    "Erf",
    "Pow",
)
_BETWEEN = ("Add", "Mul", "Sub", "Div")
_AXES = 3


def unflatten_rows(graph: ir.Graph) -> int:
    """Rewrite in place; return how many such Reshapes were taken away. A region with an operator of another kind is left."""
    count = 0
    for node in nodes(graph, "Reshape"):
        if node.graph is graph and _flattens(node):
            region = _region(node)
            if region is not None:
                count += _rewrite(graph, node, *region)
    for node in nodes(graph, "Gemm"):
        _as_matmul(node)
    return count


def _flattens(node: ir.Node) -> bool:
    """Return True for a Reshape from `[batch, sequence, features]` to `[rows, features]`."""
    before, after = dims(node.inputs[0]), dims(node.outputs[0])
    return (
        before is not None
        and after is not None
        and len(before) == _AXES
        and len(after) == 2
        and before[-1] is not None
        and before[-1] == after[-1]
    )


def _leading(value: ir.Value | None) -> list[object]:
    shape = list(value.shape or ())[:-1] if value is not None else []
    return [d if isinstance(d, int) else d.value for d in shape]


def _region(first: ir.Node) -> tuple[list[ir.Node], list[ir.Node], list[ir.Node]] | None:
    """Return the Reshapes into a region, the nodes inside, and the Reshapes out of it; None where another kind of operator reads it."""
    leading = _leading(first.inputs[0])
    entries, inside, exits = {first: None}, dict[ir.Node, None](), dict[ir.Node, None]()
    queue = [first.outputs[0]]
    while queue:
        value = queue.pop()
        if value.is_graph_output() or None in leading:
            return None
        for node in consumers(value):
            if node in inside or node in exits:
                continue
            if node.op_type == "Reshape" and _leading(node.outputs[0]) == leading and node.inputs[0] is value:
                exits[node] = None
                continue
            if not _keeps_rows(node):
                return None
            inside[node] = None
            queue += node.outputs
            for other in node.inputs:
                entry = producer(other, "Reshape")
                if (
                    entry is not None
                    and _flattens(entry)
                    and _leading(entry.inputs[0]) == leading
                    and entry not in entries
                ):
                    entries[entry] = None
                    queue.append(entry.outputs[0])
    known = {n.outputs[0] for n in (*entries, *inside)}
    if not exits or any(not _is_known(node, known) for node in inside):
        return None
    return list(entries), list(inside), list(exits)


def _keeps_rows(node: ir.Node) -> bool:
    if node.op_type == "LayerNormalization":
        return attribute_int(node, "axis", -1) in (-1, 1) and not any(o.uses() for o in node.outputs[1:])
    if node.op_type == "MatMul":
        return len(dims(node.inputs[1]) or ()) == 2
    return node.op_type in (*_BY_ELEMENT, *_BETWEEN) or _is_plain_gemm(node)


def _is_plain_gemm(node: ir.Node) -> bool:
    return (
        node.op_type == "Gemm"
        and not attribute_int(node, "transA", 0)
        and attribute_float(node, "alpha", 1.0) == attribute_float(node, "beta", 1.0) == 1.0
        and (len(node.inputs) < 3 or node.inputs[2] is None or len(dims(node.inputs[2]) or ()) == 1)
    )


def _is_known(node: ir.Node, known: set[ir.Value]) -> bool:
    """Return True where a node's inputs are rows of the region, or weights that belong to features alone."""
    given = [v for v in node.inputs if v is not None]
    weights = given[1:] if node.op_type in ("MatMul", "Gemm", "LayerNormalization") else []
    if any(not v.is_initializer() for v in weights):
        return False
    rows = [v for v in given if v not in weights]
    return all(v in known or (v.is_initializer() and len(dims(v) or ()) < 2) for v in rows) and any(
        v in known for v in rows
    )


def _rewrite(
    graph: ir.Graph, first: ir.Node, entries: list[ir.Node], inside: list[ir.Node], exits: list[ir.Node]
) -> int:
    leading = list((first.inputs[0].shape if first.inputs[0] is not None else None) or ())[:-1]
    for node in inside:
        for out in node.outputs:
            if out.shape is not None and len(out.shape) == 2:
                out.shape = ir.Shape([*leading, out.shape[-1]])
        if node.op_type == "LayerNormalization":
            node.attributes["axis"] = ir.AttrInt64("axis", -1)
    for node in (*entries, *exits):
        assert node.inputs[0] is not None
        replace(node.outputs[0], node.inputs[0])
        graph.remove(node, safe=True)
    return len(entries) + len(exits)


def _as_matmul(node: ir.Node) -> None:
    """Write a Gemm of unfolded rows by a trained weight as MatMul and Add."""
    result = node.outputs[0]
    weight = node.inputs[1]
    if not _is_plain_gemm(node) or weight is None or not weight.is_initializer() or len(dims(result) or ()) != _AXES:
        return
    if attribute_int(node, "transB", 0):
        weight = _transposed(node, weight)
    shape = None if result.shape is None else list(result.shape)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    name = str(result.name)
    product = insert(
        node,
        "MatMul",
        [node.inputs[0], weight],
        name=f"{name}.product",
        dtype=result.dtype,
        shape=shape,
    )
    last = (
        product
        if bias is None
        else insert(node, "Add", [product, bias], name=f"{name}.sum", dtype=result.dtype, shape=shape)
    )
    replace(result, last)
    assert isinstance(node.graph, ir.Graph)
    node.graph.remove(node, safe=True)


def _transposed(node: ir.Node, weight: ir.Value) -> ir.Value:
    """Return the weight `[out, in]` of a Gemm as `[in, out]`: stored so where nothing else reads it, else by a Transpose."""
    array = constant(weight)
    assert array is not None
    if consumers(weight) == [node]:
        weight.const_value = ir.Tensor(array.T, name=weight.name)
        weight.shape = ir.Shape(array.T.shape)
        return weight
    shape = list(array.T.shape)
    return insert(
        node, "Transpose", [weight], name=f"{weight.name}.of.{node.name}", dtype=weight.dtype, shape=shape, perm=[1, 0]
    )
