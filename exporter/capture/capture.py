"""Capture any kind of source, or load its reference alone."""

import onnx_ir as ir

from ..graph.canonical import canonicalize
from ..source.source import Source, open_source
from .base import Captured, Reference
from .torch_model import name_parameters, trace_model
from .torch_source import load_model, quiet_tracing


def capture(source: Source, *, whole: bool = False) -> Captured:
    """Capture any source. Raises SourceError where it cannot be loaded or traced.

    Equal layers are traced once and repeated, unless `whole`.
    """
    if source.kind == "onnx":
        from .onnx_file import capture_onnx

        return capture_onnx(source)
    reference, source = load_model(source)
    with quiet_tracing():
        model, repeated = trace_model(reference.module, source, whole=whole)
    name_parameters(model.graph)
    return Captured(model, reference, source, repeated)


def capture_canonical(spec: str, *, task: str | None = None, allow_pickle: bool = False) -> tuple[Source, ir.Model]:
    """Return a source and its canonical graph. Raise SourceError as `capture` does."""
    captured = capture(open_source(spec, task=task, allow_pickle=allow_pickle))
    return captured.source, canonicalize(captured.model, longest=captured.source.positions).model


def load_reference(source: Source) -> tuple[Reference, Source]:
    """Load the source model alone, without tracing it; return it, and the source as completed by loading."""
    if source.kind == "onnx":
        from .onnx_file import OnnxReference

        return OnnxReference(source), source
    return load_model(source)
