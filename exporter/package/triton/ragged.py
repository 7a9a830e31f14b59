"""Give a graph inputs without padding: the tokens of all texts one after another, and where each text begins.

Triton joins the requests of a batch so (`allow_ragged_batch`, and a batch input of accumulated counts that begins with zero). The graph
pads the ids itself; Headway's operators take the padding out again after the embeddings, so that no matmul sees it.
"""

import numpy as np
import onnx_ir as ir

from ....errors import UsageError
from ...graph.edit import remove_unused

ENDS = "cu_seqlens"
"""The input with the number of tokens before each text, and of all: int32 `[batch + 1]`."""

_FLAT = ("input_ids", "token_type_ids")
_MASK = "attention_mask"


def make_ragged(model: ir.Model, pad_id: int, pad_type_id: int) -> list[str]:
    """Replace inputs `[batch, sequence]` by `[tokens]` and `cu_seqlens`; keep the outputs that have one row for each text.

    Returns the names of those outputs. UsageError where there are none, or the graph has other inputs.
    """
    graph = model.graph
    known = {*_FLAT, _MASK}
    others = [v.name for v in graph.inputs if v.name not in known]
    kept = [o for o in graph.outputs if o.shape is not None and "sequence" not in [str(d) for d in o.shape]]
    if others or not kept:
        what = f"the input {others[0]}" if others else "outputs per token alone"
        raise UsageError(
            f"the model has {what}, which Triton cannot join without padding: package a bundle with stock kernels"
        )
    builder = _Builder()
    padded = {str(value.name): value for value in graph.inputs}
    ends = builder.input(ENDS, ir.DataType.INT32)
    flat = {name: builder.input(name, value.dtype) for name, value in padded.items() if name != _MASK}
    places, mask = _places(builder, ends, flat["input_ids"])
    for name, value in padded.items():
        dtype = value.dtype or ir.DataType.INT64
        if name == _MASK:
            new = builder.node("Cast", [mask], dtype, to=dtype)
        else:
            filler = builder.constant(np.array(pad_type_id if name == "token_type_ids" else pad_id, dtype.numpy()))
            gathered = builder.node("Gather", [flat[name], places], dtype, axis=0)
            new = builder.node("Where", [mask, gathered, filler], dtype)
        new.shape = value.shape
        ir.convenience.replace_all_uses_with(value, new)
        value.name = f"{name}.replaced"
        new.name = f"{name}.padded"
    graph.inputs[:] = [flat[name] for name in padded if name in flat] + [ends]
    graph.outputs[:] = kept
    graph.insert_before(graph[0], builder.nodes)
    remove_unused(model)
    return [str(o.name) for o in kept]


class _Builder:
    """Nodes in the order in which they are made."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []

    def input(self, name: str, dtype: ir.DataType | None) -> ir.Value:
        return ir.Value(name=name, shape=ir.Shape([f"{name}_length"]), type=ir.TensorType(dtype or ir.DataType.INT64))

    def node(self, kind: str, inputs: list[ir.Value], dtype: ir.DataType | None, **attributes: object) -> ir.Value:
        made = ir.node(kind, inputs, attributes=attributes or None, name=f"ragged_{len(self.nodes)}")  # type: ignore[arg-type]
        (value,) = made.outputs
        value.name, value.type = f"ragged_{len(self.nodes)}", ir.TensorType(dtype or ir.DataType.INT64)
        self.nodes.append(made)
        return value

    def constant(self, array: np.ndarray) -> ir.Value:
        made = ir.node("Constant", [], attributes={"value": ir.tensor(array)}, name=f"ragged_{len(self.nodes)}")
        (value,) = made.outputs
        value.name, value.type = f"ragged_{len(self.nodes)}", ir.TensorType(ir.DataType.from_numpy(array.dtype))
        self.nodes.append(made)
        return value

    def slice(self, value: ir.Value, start: int, end: int) -> ir.Value:
        bounds = [self.constant(np.array([n], np.int64)) for n in (start, end, 0)]
        return self.node("Slice", [value, *bounds], ir.DataType.INT64)


def _places(builder: _Builder, ends: ir.Value, ids: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return where each padded token comes from, and which are real: int64 and bool `[batch, longest]`."""
    integers, booleans = ir.DataType.INT64, ir.DataType.BOOL
    wide = builder.node("Cast", [ends], integers, to=integers)
    starts = builder.slice(wide, 0, -1)
    lengths = builder.node("Sub", [builder.slice(wide, 1, np.iinfo(np.int64).max), starts], integers)
    longest = builder.node("ReduceMax", [lengths], integers, keepdims=0)
    zero, one = (builder.constant(np.array(n, np.int64)) for n in (0, 1))
    columns = builder.node("Range", [zero, longest, one], integers)
    axis = builder.constant(np.array([1], np.int64))
    mask = builder.node("Less", [columns, builder.node("Unsqueeze", [lengths, axis], integers)], booleans)
    places = builder.node("Add", [builder.node("Unsqueeze", [starts, axis], integers), columns], integers)
    count = builder.node("Size", [ids], integers)
    last = builder.node("Sub", [count, one], integers)
    return builder.node("Min", [places, last], integers), mask
