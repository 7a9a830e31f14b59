"""Capture an existing `.onnx` file. It is read lazily, so that files of any size fit; ONNX Runtime runs it as the reference."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime

from ...errors import SourceError
from ...scratch import scratch
from ...text import Text
from ..passes.sharing import share
from ..source.source import Source
from .base import Answers, Axes, Captured
from .onnx_axes import find_axes, has_free_axes
from .onnx_refusals import refuse_unreadable
from .onnx_weights import find_external_data
from .source_tokens import SourceTokens
from .weights import not_finite

_NUMPY = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(float)": np.float32,
}


def capture_onnx(source: Source) -> Captured:
    """Read the file; weights stay on disk until they are needed. SourceError where it is damaged."""
    path = Path(source.spec)
    try:
        model = ir.load(path)
    except Exception as error:  # protobuf and onnx_ir raise their own kinds
        raise SourceError(
            f"{path}: not a readable ONNX file: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    if not len(model.graph) or not model.graph.inputs:
        raise SourceError(f"{path}: the ONNX graph is empty: the file is damaged")
    refuse_unreadable(model, path)
    find_external_data(model, path)
    share(model.graph, axes=2, least=256)  # exporters write a shared weight once for each use
    _check_finite(model, path)
    reference = OnnxReference(source)
    reference.session  # noqa: B018  opens now, so that a damaged file is reported before any work
    axes = reference.axes if has_free_axes(model) else {}  # a fixed shape is refused later, with its name
    return Captured(model, reference, source, axes=axes)


_READ_AS_WEIGHTS = frozenset(
    [
        "MatMul",
        "Gemm",
        "Gather",
        "Conv",
        "LayerNormalization",
        "SkipLayerNormalization",
        "RMSNormalization",
        "BatchNormalization",
    ]
)


def _check_finite(model: ir.Model, path: Path) -> None:
    """Raise SourceError naming the first initializer with NaN, or with infinity where it is a weight: masks hold infinity."""
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or not tensor.dtype.is_floating_point():
            continue
        array = tensor.numpy().astype(np.float32, copy=False)
        weight = any(use.node.op_type in _READ_AS_WEIGHTS for use in value.uses())
        nans, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum()) if weight else 0
        if nans or infinite:
            raise SourceError(not_finite(str(path), name, nans, infinite, array.size))


class OnnxReference:
    """The source file itself, in ONNX Runtime without graph optimization."""

    def __init__(self, source: Source):
        self.path, self.source = Path(source.spec), source
        self.tokens = SourceTokens(source)
        self._session: onnxruntime.InferenceSession | None = None

    @property
    def judge(self) -> str:
        """The library, its version and what it runs."""
        return f"onnxruntime {onnxruntime.__version__}, without graph optimization"

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """The session, opened when it is first needed. SourceError where ONNX Runtime cannot load the file."""
        if self._session is None:
            self._session = self._open(self.path)
        return self._session

    def _open(self, model: Path) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        try:
            return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own unrelated exception types
            raise SourceError(f"{self.path}: ONNX Runtime cannot load it: {error}") from error

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the file's outputs by name. SourceError where it does not run on these inputs."""
        wanted = self._typed(self.session, feeds)
        try:
            results = self.session.run(None, wanted)
        except Exception as error:  # onnxruntime raises its own unrelated exception types
            shape = feeds["input_ids"].shape
            raise SourceError(
                f"{self.path}: the source itself does not run on ids of shape {shape}: {error}"
            ) from error
        return dict(zip([o.name for o in self.session.get_outputs()], results, strict=True))

    def _typed(self, session: onnxruntime.InferenceSession, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the inputs in the types that the file declares. SourceError for an input that is not computed from text."""
        unknown = [i.name for i in session.get_inputs() if i.name not in feeds]
        if unknown:
            raise SourceError(
                f"{self.path}: its input {unknown[0]!r} is not made from text ({', '.join(feeds)} are): export the model without it"
            )
        return {i.name: feeds[i.name].astype(_NUMPY.get(i.type, np.int64), copy=False) for i in session.get_inputs()}

    @cached_property
    def axes(self) -> dict[str, Axes]:
        """The outputs' axes, found by running the file. SourceError where they are not those of a text encoder."""
        ranks = {i.name: len(i.shape) for i in self.session.get_inputs()}
        return find_axes(self.path, self.run, ranks, self.source)

    def from_text(self, texts: Sequence[Text]) -> Answers:
        """Return token ids and outputs of texts, by the source's own tokenizer."""
        names = [i.name for i in self.session.get_inputs()]
        return self.tokens.answer(texts, names, self.run, [n for n, axes in self.axes.items() if "sequence" in axes])

    def inside(self, feeds: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
        """Return inner values by their names in the file; unknown names are left out."""
        model = ir.load(self.path)
        find_external_data(model, self.path)
        values = ir.convenience.create_value_mapping(model.graph)
        known = [n for n in names if n in values]
        if not known:
            return {}
        part = ir.convenience.extract(model.graph, list(model.graph.inputs), [values[n] for n in known])
        with scratch() as folder:
            # Weights go into a file of their own: they may be larger than one protobuf message can be.
            file = Path(folder) / "part.onnx"
            ir.save(ir.Model(part, ir_version=model.ir_version), file, external_data="part.data")
            session = self._open(file)
        return dict(zip(known, session.run(known, self._typed(session, feeds)), strict=True))

    def close(self) -> None:
        """Free the session."""
        self._session = None
