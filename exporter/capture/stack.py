"""Trace a stack of equal layers once: the graph of one layer is repeated with each layer's own weights.

Tracing takes most of an export's time and grows with depth; equal layers give equal graphs. Whether layers are equal is
read from their modules. Every export is compared with the complete source afterwards, so a wrong guess cannot pass.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from ...errors import SourceError
from ..graph.edit import ancestors

SHORTEST = 3
"""Stacks below this length are traced whole."""


@dataclass
class Stack:
    """The module list `path` (dotted, from the traced root) whose layers are all equal."""

    path: str
    layers: Any


def find_stack(root: Any) -> Stack | None:
    """Return the one list of equal encoder layers in a torch module; None where there is none, or several."""
    import torch

    stacks = [
        Stack(path, module)
        for path, module in root.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) >= SHORTEST and _equal(list(module))
    ]
    outer = [s for s in stacks if not any(s is not o and s.path.startswith(o.path + ".") for o in stacks)]
    return outer[0] if len(outer) == 1 else None


def _equal(layers: list[Any]) -> bool:
    first = _shape_of(layers[0])
    return all(_shape_of(layer) == first for layer in layers[1:]) and len(
        {id(p) for x in layers for p in x.parameters()}
    ) == len([p for x in layers for p in x.parameters()])


def _shape_of(layer: Any) -> list[tuple]:
    """Return everything about a layer that could change its graph: classes, plain attributes, parameter shapes; not its index."""
    described = []
    for name, module in layer.named_modules():
        plain = {
            k: v
            for k, v in vars(module).items()
            if isinstance(v, bool | int | float | str | tuple | type(None))
            and not k.startswith("_")
            and k not in ("layer_idx", "layer_id", "training")
        }
        tensors = [
            (k, tuple(v.shape), str(v.dtype))
            for k, v in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        ]
        described.append((name, type(module), sorted(plain.items(), key=lambda x: x[0]), tensors))
    return described


@contextmanager
def first_layer_only(root: Any, stack: Stack) -> Iterator[list[Any]]:
    """Cut the stack to its first layer inside the block; yield a list that receives that layer's input and output."""
    import torch

    parent_path, _, name = stack.path.rpartition(".")
    parent = root.get_submodule(parent_path)
    boundary: list[Any] = []

    def keep(_module: Any, positional: tuple, named: dict, result: Any) -> None:
        boundary[:] = [
            positional[0] if positional else named["hidden_states"],
            result[0] if isinstance(result, tuple) else result,
        ]

    handle = stack.layers[0].register_forward_hook(keep, with_kwargs=True)
    setattr(parent, name, torch.nn.ModuleList([stack.layers[0]]))
    try:
        yield boundary
    finally:
        setattr(parent, name, stack.layers)
        handle.remove()


def repeat_layer(model: ir.Model, stack: Stack, entry: ir.Value, leave: ir.Value) -> None:
    """Repeat the traced layer for the others, in place.

    `entry` and `leave` are its input and output, float32 `[batch, sequence, hidden]`. Raises SourceError where the
    layer has more than one input or output.
    """
    graph = model.graph
    prefix = f"{stack.path}.0."
    tensors = {name for name, _ in [*stack.layers[0].named_parameters(), *stack.layers[0].named_buffers()]}
    own = [
        v
        for v in graph.initializers.values()
        if (v.name or "").startswith(prefix) and (v.name or "").removeprefix(prefix) in tensors
    ]
    # What the layer computes from its input or its weights; the mask and the positions are shared by all layers.
    known = {entry, *own}
    for node in graph:
        if any(v in known for v in node.inputs):
            known.update(node.outputs)
    inside = known.intersection(ancestors(leave, stop=[entry])) - {entry, *own}
    block = [n for n in graph if any(o in inside for o in n.outputs)]
    members = set(block)
    readers = [u.node for n in block for o in n.outputs if o is not leave for u in o.uses() if u.node not in members]
    if readers:
        raise SourceError(f"the layer's inner values are read outside it, by {readers[0].name!r}")
    after = [u for u in leave.uses() if u.node not in members]
    previous = leave
    anchor = block[-1]
    for index in range(1, len(stack.layers)):
        renamed: dict[ir.Value, ir.Value] = {entry: previous}
        for weight in own:
            renamed[weight] = _weight_of(graph, stack, weight, prefix, index)
        for node in block:
            copy = ir.node(
                node.op_type,
                [renamed.get(v, v) if v is not None else None for v in node.inputs],
                domain=node.domain,
                attributes=dict(node.attributes),
                num_outputs=len(node.outputs),
                name=f"{node.name}.layer_{index}",
            )
            for old, new in zip(node.outputs, copy.outputs, strict=True):
                new.name, new.shape, new.type = f"{old.name}.layer_{index}", old.shape, old.type
                renamed[old] = new
            graph.insert_after(anchor, copy)
            anchor = copy
        previous = renamed[leave]
    for use in after:
        use.node.replace_input_with(use.idx, previous)
    for i, output in enumerate(graph.outputs):
        if output is leave:
            graph.outputs[i] = previous
            leave.name, previous.name = f"{leave.name}.layer_0", leave.name


def _weight_of(graph: ir.Graph, stack: Stack, weight: ir.Value, prefix: str, index: int) -> ir.Value:
    name = (weight.name or "").removeprefix(prefix)
    holder, _, leaf = name.rpartition(".")
    tensor = getattr(stack.layers[index].get_submodule(holder), leaf).detach()
    copy = ir.Value(
        name=f"{stack.path}.{index}.{name}",
        shape=weight.shape,
        type=weight.type,
        const_value=ir.Tensor(tensor.numpy(), name=f"{stack.path}.{index}.{name}"),
    )
    graph.register_initializer(copy)
    return copy
