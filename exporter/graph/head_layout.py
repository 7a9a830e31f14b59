"""Bring queries, keys and values from 4-D heads to `[batch, sequence, heads*head_dim]`, and results back where they are read so."""

import numpy as np
import onnx_ir as ir

from ...errors import SourceError
from .edit import (
    attribute_int,
    attribute_ints,
    constant,
    consumers,
    dims,
    initializer,
    insert,
    producer,
    reach,
    replace,
)
from .probe import Prober

_REPEATING = ("Reshape", "Expand", "Unsqueeze", "Tile", "Slice")
_SIZE_ARITHMETIC = ("Cast", "Concat", "Div", "Gather", "Mul", "Slice", "Squeeze", "Unsqueeze")


def merge_heads(graph: ir.Graph, value: ir.Value, anchor: ir.Node) -> tuple[ir.Value, int]:
    """Return the `[batch, sequence, heads*head_dim]` behind 4-D heads, and the number of heads."""
    split = producer(_before_transpose(value), "Reshape")
    if split is not None:
        source, heads = split.inputs[0], _heads_of_split(split)
        if source is not None and heads is not None and len(dims(source) or ()) == 3:
            return source, heads
    check_heads(value, anchor)
    shape = dims(value)
    assert shape is not None and len(shape) == 4 and shape[1] is not None and shape[3] is not None
    heads, width = shape[1], shape[1] * shape[3]
    order = [0, 2, 1, 3]
    sizes: list = list(value.shape) if value.shape is not None else [None] * 4
    last = _before_transpose(value) or insert(
        anchor,
        "Transpose",
        [value],
        name=f"{value.name}.sequence_first",
        dtype=value.dtype,
        perm=order,
        shape=[sizes[p] for p in order],
    )
    target = initializer(graph, f"join_heads_{width}", np.array([0, 0, width]))
    merged = insert(
        anchor,
        "Reshape",
        [last, target],
        name=f"{value.name}.joined",
        dtype=value.dtype,
        shape=[sizes[0], sizes[2], width],
    )
    return merged, heads


def check_heads(value: ir.Value, anchor: ir.Node) -> None:
    """Raise SourceError where `merge_heads` could not read the heads of a 4-D value."""
    split = producer(_before_transpose(value), "Reshape")
    if split is not None and _heads_of_split(split) is not None and len(dims(split.inputs[0]) or ()) == 3:
        return
    shape = dims(value)
    if shape is None or len(shape) not in (3, 4) or (len(shape) == 4 and not (shape[1] and shape[3])):
        raise SourceError(
            f"attention at {anchor.name!r}: the heads of {value.name!r} cannot be read, its shape is {value.shape}"
        )


def before_repeat(value: ir.Value, prober: Prober) -> ir.Value:
    """Return the keys or values `[batch, fewer heads, sequence, head_dim]` of which `value` repeats each head for a group of queries.

    `value` itself where it repeats none. Running the part between tells.
    """
    current, heads = value, (dims(value) or [None, None])[1]
    while (node := producer(current, *_REPEATING)) is not None and node.inputs[0] is not None:
        current = node.inputs[0]
        shape = dims(current) or []
        if len(shape) != 4 or not shape[1] or not shape[3] or not heads or shape[1] >= heads or heads % shape[1]:
            continue
        sizes = [(2, shape[1], length, shape[3]) for length in (5, 33)]
        parts = [np.random.default_rng(0).standard_normal(size).astype(np.float32) for size in sizes]
        feeds = [prober.feeds(np.ones((2, len(p[0, 0])), np.int64)) | {str(current.name): p} for p in parts]
        results = [r for (r,) in prober.runs([value], feeds, [current])]
        times = heads // shape[1]
        same = all(np.array_equal(r, p.repeat(times, axis=1)) for r, p in zip(results, parts, strict=True))
        return current if same else value
    return value


def repeat_shared_heads(graph: ir.Graph, node: ir.Node) -> None:
    """Give an `Attention` whose queries share keys and values one of each for every head, in place: for runtimes that need that."""
    heads, kv_heads = attribute_int(node, "q_num_heads"), attribute_int(node, "kv_num_heads")
    if heads == kv_heads:
        return
    apart = initializer(graph, f"split_shared_heads_{kv_heads}", np.array([0, 0, kv_heads, 1, -1]))
    often = initializer(graph, f"repeat_heads_{heads // kv_heads}", np.array([1, 1, 1, heads // kv_heads, 1]))
    for i in (1, 2):
        value = node.inputs[i]
        assert value is not None
        width = ((dims(value) or [None])[-1] or 0) * heads // kv_heads
        joined = initializer(graph, f"join_heads_{width}", np.array([0, 0, width]))
        parts = insert(
            node, "Reshape", [value, apart], name=f"{value.name}.of.{node.name}.{i}.split", dtype=value.dtype
        )
        parts = insert(
            node, "Expand", [parts, often], name=f"{value.name}.of.{node.name}.{i}.repeated", dtype=value.dtype
        )
        shape = [*list(value.shape or ())[:2], width]
        result = insert(
            node, "Reshape", [parts, joined], name=f"{value.name}.of.{node.name}.{i}", dtype=value.dtype, shape=shape
        )
        node.replace_input_with(i, result)
    node.attributes["kv_num_heads"] = ir.AttrInt64("kv_num_heads", heads)


def complete_shape(value: ir.Value, prober: Prober) -> None:
    """Probe heads and head_dim of a 4-D value where neither its shape nor the Reshape that splits it gives them."""
    shape = dims(value)
    if shape is None or len(shape) == 3 or (len(shape) == 4 and shape[1] and shape[3]):
        return
    split = producer(_before_transpose(value), "Reshape")
    if split is not None and _heads_of_split(split) is not None:
        return
    known = prober.fixed_dims(value)
    if len(known) == 4 and value.shape is not None:
        value.shape = ir.Shape([old if new is None else new for old, new in zip(value.shape, known, strict=True)])


def _heads_of_split(reshape: ir.Node) -> int | None:
    """Return the heads of a Reshape from `[…, width]` to `[…, heads, head_dim]`; one of the two may be left open as -1."""
    width = (dims(reshape.inputs[0]) or [None])[-1]
    shape = dims(reshape.outputs[0]) or []
    if len(shape) != 4:
        return None
    heads, head_dim = (
        given or inferred for given, inferred in zip(_requested_sizes(reshape)[-2:], shape[-2:], strict=True)
    )
    if heads is None and head_dim is not None and width is not None:
        heads = width // head_dim
    if heads is None or width is None or width % heads or (head_dim is not None and heads * head_dim != width):
        return None
    return heads


def _requested_sizes(reshape: ir.Node) -> list[int | None]:
    """Return the last four sizes that a Reshape asks for; None for a size that is computed or -1."""
    given = constant(reshape.inputs[1])
    if given is not None:
        sizes = [int(x) for x in given]
    else:
        concat = producer(reshape.inputs[1], "Concat")
        parts = [constant(v) for v in concat.inputs] if concat is not None else []
        sizes = [int(p.reshape(())) if p is not None and p.size == 1 else -1 for p in parts]
    padded = [-1] * max(0, 4 - len(sizes)) + sizes
    return [x if x > 0 else None for x in padded]


def _before_transpose(value: ir.Value) -> ir.Value | None:
    """Return the input of a Transpose that swaps heads and sequence; None of another value."""
    node = producer(value, "Transpose")
    return node.inputs[0] if node is not None and permutation(node) == [0, 2, 1, 3] else None


def permutation(node: ir.Node) -> list[int]:
    """Return the axes' order that a Transpose gives; an empty list where it names none."""
    return attribute_ints(node, "perm", [])


def joined_heads(out: ir.Value, heads: int) -> ir.Value | None:
    """Return the `[batch, sequence, heads*head_dim]` made from a 4-D result; None where the result is used otherwise."""
    value = out
    for op_type in ("Reshape", "Transpose", "Reshape"):
        sizes = [n for n in consumers(value) if n.op_type == "Shape"]
        readers = [n for n in consumers(value) if n not in sizes]
        if len(readers) != 1 or not all(_read_by(size.outputs[0]) <= {readers[0]} for size in sizes):
            return None
        if op_type == "Reshape" and value is out and len(dims(readers[0].outputs[0]) or ()) != 4:
            return None
        if op_type == "Reshape" and value is out and readers[0].op_type == "Transpose":
            continue  # only some exporters put a 4-D Reshape here that changes nothing
        if readers[0].op_type != op_type or (op_type == "Transpose" and permutation(readers[0]) != [0, 2, 1, 3]):
            return None
        value = readers[0].outputs[0]
    shape, split = dims(value), dims(out)
    if shape is None or len(shape) != 3:
        return None
    width = heads * split[3] if split is not None and split[3] is not None else None
    return value if width is None or shape[2] in (None, width) else None


def _read_by(size: ir.Value) -> set[ir.Node]:
    """Return the nodes that read what is computed from a size, past arithmetic on sizes."""
    reached = (n for v in reach(size, _onward) for n in consumers(v))
    return {n for n in reached if n.op_type not in _SIZE_ARITHMETIC}


def _onward(size: ir.Value) -> list[ir.Value]:
    return [out for n in consumers(size) if n.op_type in _SIZE_ARITHMETIC for out in n.outputs]


def split_heads(graph: ir.Graph, out: ir.Value, result: ir.Value, heads: int) -> None:
    """Give the readers of a 4-D result that form back, from the 3-D `result`."""
    split = initializer(graph, f"split_heads_{heads}", np.array([0, 0, heads, -1]))
    anchor = consumers(out)[0]
    apart = insert(anchor, "Reshape", [result, split], name=f"{result.name}.split", dtype=result.dtype)
    replace(
        out,
        insert(anchor, "Transpose", [apart], name=f"{result.name}.heads_first", dtype=result.dtype, perm=[0, 2, 1, 3]),
    )
