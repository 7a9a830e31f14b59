"""Capture any kind of source, or load its reference alone."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from ...errors import HeadwayWarning, SourceError
from ..graph.canonical import Canonical, canonicalize
from ..graph.edit import remove_unused
from ..passes.scales import fold_scales
from ..passes.sharing import share
from ..passes.zeros import cut_zeros
from ..quiet import without_logs
from ..source.source import Source, open_source
from .base import Captured, Reference
from .torch_model import name_parameters, trace_model
from .torch_source import load_model, quiet_tracing

_LEAST_SHARED = 256
"""The fewest elements of a tensor that is worth sharing."""


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


def capture_canonical(
    spec: str, *, task: str | None = None, allow_pickle: bool = False, adapters: Sequence[str] = ()
) -> tuple[Source, ir.Model]:
    """Return a source and its canonical graph. Raise SourceError as `capture` does."""
    captured = capture(open_source(spec, task=task, allow_pickle=allow_pickle, adapters=adapters))
    model = canonical_of(captured).model
    return captured.source, model


def canonical_of(captured: Captured) -> Canonical:
    """Bring a captured graph into canonical form, in place, without what is wholly zero.

    The SourceError for what does not fit names the source. `captured.source` then says what zeros there were.
    """
    try:
        with without_logs():  # the passes of onnx_ir log what they cannot do, with tracebacks
            canonical = canonicalize(captured.model, longest=captured.source.positions)
        _simplify(captured, canonical)
    except SourceError as error:
        spec = captured.source.spec
        raise SourceError(str(error) if spec in str(error) else f"{spec}: {error}") from error
    except Exception as error:
        # onnx's checker, onnx_ir and onnxscript raise many kinds, for graphs that are not valid ONNX.
        if captured.source.kind != "onnx":
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise SourceError(
            f"{captured.source.spec}: not a graph that can be read ({reason}): see what onnx.checker says of it, and export it again"
        ) from error
    for sentence in canonical.sentences:
        warnings.warn(f"{captured.source.spec}: {sentence}", HeadwayWarning, stacklevel=2)
    for value in canonical.model.graph.outputs:
        axes = captured.axes.get(str(value.name))
        if axes is not None:
            value.shape = ir.Shape(axes)
    return canonical


def _simplify(captured: Captured, canonical: Canonical) -> None:
    """Store equal weights once, fold scales, and cut away what is wholly zero, which the source then says.

    Values that are not those of the source any more lose their names there. Weights that came as integers stay as they are.
    """
    share(canonical.model.graph, axes=2, least=_LEAST_SHARED)
    if captured.source.checkpoint is not None and captured.source.checkpoint.integers:
        return
    for name in fold_scales(canonical.model.graph):
        canonical.sources.pop(name, None)
    remove_unused(canonical.model)
    smaller, sentences = cut_zeros(canonical.model)
    if smaller is not canonical.model:
        before, after = (_shapes(model) for model in (canonical.model, smaller))
        canonical.sources = {n: s for n, s in canonical.sources.items() if after.get(n) == before.get(n)}
        canonical.model = smaller
        captured.source = replace(captured.source, cut=True)
    captured.source = replace(captured.source, zeros=sentences)
    for sentence in sentences:
        warnings.warn(f"{captured.source.spec}: {sentence}", HeadwayWarning, stacklevel=3)


def _shapes(model: ir.Model) -> dict[str, str]:
    return {str(v.name): str(v.shape) for node in model.graph for v in node.outputs}


def load_reference(source: Source) -> tuple[Reference, Source]:
    """Load the source model alone, without tracing it; return it, and the source as completed by loading."""
    if source.kind == "onnx":
        from .onnx_file import OnnxReference

        return OnnxReference(source), source
    return load_model(source)
