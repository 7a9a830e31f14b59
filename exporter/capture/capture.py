"""Capture any kind of source, or load its reference alone."""

from pathlib import Path

from ..source.source import Source
from .base import Captured, Reference
from .torch_model import TorchReference, load_model, name_parameters, quiet_tracing, trace_model


def capture(source: Source, *, whole: bool = False) -> Captured:
    """Captures any source. Raises SourceError where the source cannot be loaded or traced.

    Equal layers are traced once and repeated, unless `whole`.
    """
    if source.kind == "onnx":
        from .onnx_file import capture_onnx

        return capture_onnx(source)
    with quiet_tracing():
        wrapped, source = load_model(source)
        captured = trace_model(wrapped, source, whole=whole)
        name_parameters(captured.model.graph)
        return captured


def load_reference(source: Source) -> tuple[Reference, Source]:
    """The source model alone, ready to run, without tracing it, and the source with what only loading it could tell."""
    if source.kind == "onnx":
        from .onnx_file import OnnxReference

        return OnnxReference(Path(source.spec)), source
    with quiet_tracing():
        wrapped, source = load_model(source)
    return TorchReference(wrapped), source
