"""Trace a loaded torch model to a raw ONNX graph. Imports torch when it traces."""

from typing import Any

import numpy as np
import onnx_ir as ir

from ...errors import SourceError
from ..source.source import Source
from .fake_quant import frozen
from .recurrent import traced_lstms
from .stack import find_stack, first_layer_only, repeat_layer
from .torch_reference import first_lines

_SHORT, _LONG = 7, 33
_WINDOWS = ("window", "local_attention", "block_size", "stride", "kernel_size")
"""Parts of the names that configs have for how far a layer looks."""


def trace_model(wrapped: Any, source: Source, *, whole: bool) -> tuple[ir.Model, bool]:
    """Trace the module; a stack of equal layers once, unless `whole`. Return also whether layers were repeated."""
    with frozen(wrapped):  # around all of it: scales of the layers that are not traced are read from their modules
        return _trace_frozen(wrapped, source, whole=whole)


def _trace_frozen(wrapped: Any, source: Source, *, whole: bool) -> tuple[ir.Model, bool]:
    stack = None if whole else find_stack(wrapped)
    if stack is None:
        return _export(wrapped, source, list(wrapped.outputs)), False
    try:
        with first_layer_only(wrapped, stack) as boundary:
            wrapped.extra = boundary
            model = _export(wrapped, source, [*wrapped.outputs, "layer.entry", "layer.leave"])
        wrapped.extra = []
        leave, entry = (_named(model.graph.outputs.pop()) for _ in range(2))
        repeat_layer(model, stack, entry, leave)
    except SourceError:  # the layers are connected by more than one value
        wrapped.extra = []
        return _trace_frozen(wrapped, source, whole=True)
    return model, True


def _named(value: ir.Value) -> ir.Value:
    """Return the value behind an output: an Identity is between where one value is two outputs."""
    node = value.producer()
    return node.inputs[0] if node is not None and node.op_type == "Identity" and node.inputs[0] is not None else value


def _export(wrapped: Any, source: Source, outputs: list[str]) -> ir.Model:
    """Trace on texts longer than any window of the config; on short ones where the model takes no more."""
    length = traced_length(source)
    try:
        return _traced(wrapped, source, outputs, length)
    except SourceError:
        if length == _SHORT:
            raise
        return _traced(wrapped, source, outputs, _SHORT)


def traced_length(source: Source) -> int:
    """Return the length to trace at, in tokens: odd, beyond twice the widest window of the config, within its positions.

    What a model does to texts shorter than a window only is then not taken for what it does to all.
    A window of 16,384 tokens or more counts as none.
    """
    widths = [v for k, v in source.config.items() if type(v) is int and any(part in k for part in _WINDOWS)]
    wanted = max([_LONG, *(2 * w + 3 for w in widths if w < 1 << 14)]) | 1
    within = min(wanted, source.positions)
    return max(_SHORT, within if within % 2 else within - 1)


def _traced(wrapped: Any, source: Source, outputs: list[str], length: int) -> ir.Model:
    import torch

    shape = (2, 3, length) if source.task == "multiple-choice" else (2, length)
    vocabulary = int(getattr(getattr(wrapped.model, "config", None), "vocab_size", 100))
    ids = torch.arange(int(np.prod(shape))).reshape(shape) % max(vocabulary - 1, 1) + 1
    mask = torch.ones_like(ids)
    mask[..., 1, length - 2 :] = 0
    sample = [ids, mask, torch.zeros_like(ids)][: len(wrapped.names)]
    dynamic = tuple({axis: torch.export.Dim.DYNAMIC for axis in range(len(shape))} for _ in sample)
    try:
        with torch.no_grad(), traced_lstms(wrapped):
            program = torch.export.export(wrapped, tuple(sample), dynamic_shapes=(dynamic,), strict=False)
            exported = torch.onnx.export(program, dynamo=True, opset_version=23, optimize=False, verbose=False)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{source.spec}: torch could not export the model: {_reason(error)}") from error
    assert exported is not None
    if len(exported.model.graph.outputs) != len(outputs):
        raise SourceError(
            f"{source.spec}: the trace has {len(exported.model.graph.outputs)} outputs, not {', '.join(outputs)}"
        )
    _name_boundary(exported.model, wrapped.names, outputs)
    return exported.model


def _reason(error: Exception) -> str:
    """Return why tracing failed, in one sentence."""
    text = str(error)
    if "Constraints violated" in text or "specialized" in text:
        return "its code fixes the batch or the sequence to the size that it was traced at, and a bundle takes any"
    if "data-dependent" in text:
        return f"its code decides by numbers that depend on the text ({first_lines(error).split('.')[0]})"
    cause: BaseException = error
    while (
        isinstance(error, torch_errors()) and cause.__cause__ is not None
    ):  # the exporter's own words are advice on its own bugs
        cause = cause.__cause__
    return first_lines(cause) if isinstance(cause, Exception) else first_lines(error)


def torch_errors() -> tuple[type[Exception], ...]:
    """Return the errors that `torch.onnx` wraps others in."""
    import torch

    return (torch.onnx.OnnxExporterError,)


def _name_boundary(model: ir.Model, inputs: list[str], outputs: list[str]) -> None:
    """Name inputs and outputs as the source does; inner values with such a name are renamed."""
    graph = model.graph
    for value in [out for node in graph for out in node.outputs]:
        if value.name in inputs or value.name in outputs:
            value.name = f"{value.name}.inner"
    for value, name in zip(graph.inputs, inputs, strict=True):
        value.name = name
    for i, (value, name) in enumerate(zip(list(graph.outputs), outputs, strict=True)):
        if value in graph.outputs[:i] or value.is_graph_input() or value.is_initializer():
            node = ir.node("Identity", [value])
            graph.append(node)
            graph.outputs[i] = value = node.outputs[0]
        value.name = name


def name_parameters(graph: ir.Graph) -> None:
    """Name parameters by their path in the source model, not in the wrapper."""
    for value in list(graph.initializers.values()):
        name = value.name or ""
        short = name.removeprefix("model.")
        if name != short and short not in graph.initializers:
            value.name = short
