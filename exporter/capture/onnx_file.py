"""Capture an existing `.onnx` file. It is read lazily, so that files of any size fit; ONNX Runtime runs it as the reference."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime

from ...errors import SourceError
from ...scratch import scratch
from ...text import Text
from ..graph.source_rounding import drop_inner_rounding
from ..passes.sharing import share
from ..source.source import Source
from .base import Answers, Axes, Captured
from .onnx_axes import find_axes, has_free_axes
from .onnx_distance import Distance
from .onnx_forms import Reading, read_forms, say
from .onnx_weights import find_external_data
from .source_tokens import SourceTokens
from .weights import not_finite

_NOT_THERE = ("NOT_IMPLEMENTED", "Could not find an implementation", "is not a registered function/op")

_NUMPY = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(float)": np.float32,
}


def capture_onnx(source: Source) -> Captured:
    """Read the file; weights stay on disk until they are needed. SourceError where it is damaged, HeadwayWarning for what was done."""
    path = Path(source.spec)
    reading = _read(path)
    model = reading.model
    say(reading)
    share(model.graph, axes=2, least=256)  # exporters write a shared weight once for each use
    _check_finite(model, path)
    reference = OnnxReference(source)
    reference.session  # noqa: B018  opens now, so that a damaged file is reported before any work
    axes = reference.axes if has_free_axes(model) else {}  # a fixed shape is refused later, with its name
    return Captured(model, reference, replace(source, form=reading.sentences), axes=axes)


def _read(path: Path) -> Reading:
    """Load a file and rewrite what other tools wrote in forms of their own. SourceError where it is damaged."""
    try:
        model = ir.load(path)
    except Exception as error:  # protobuf and onnx_ir raise their own kinds
        raise SourceError(
            f"{path}: not a readable ONNX file: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    if not len(model.graph) or not model.graph.inputs:
        raise SourceError(f"{path}: the ONNX graph is empty: the file is damaged")
    find_external_data(model, path)
    try:
        return read_forms(model, path)
    except (
        ValueError,
        TypeError,
        IndexError,
    ) as error:  # tensors whose bytes do not fit their shape, inputs that are not there
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise SourceError(
            f"{path}: damaged: {reason}: see what onnx.checker says of it, and download it again"
        ) from error


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
    """The source file in ONNX Runtime without graph optimization.

    Where the file rounds at run time in a way that is left out here, the graph as it was read is run in its place, and how far the
    file's own outputs are from it is measured on the same inputs.
    """

    def __init__(self, source: Source):
        self.path, self.source = Path(source.spec), source
        self.tokens = SourceTokens(source)
        self._session: onnxruntime.InferenceSession | None = None
        self._own: onnxruntime.InferenceSession | None = None
        self.distance: Distance | None = None

    @property
    def judge(self) -> str:
        """The library, its version and what it runs."""
        runtime = f"onnxruntime {onnxruntime.__version__}, without graph optimization"
        return f"{runtime}{self.distance.words()}" if self.distance is not None else runtime

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """The session, opened when it is first needed. SourceError where ONNX Runtime cannot load the file."""
        if self._session is None:
            reading = _read(self.path)
            if drop_inner_rounding(reading.model):
                reading.rounds("the rounding of activations elsewhere than in front of matmuls")
            if not reading.rounded:
                self._session = self._open(self.path)
            else:
                self._own = self._open_own()
                self._session = self._open_graph(reading.model)
                self.distance = Distance(reading.rounded, runs=self._own is not None)
        return self._session

    def _open_own(self) -> onnxruntime.InferenceSession | None:
        """Open the file itself; None where it needs an operator that ONNX Runtime does not have for CPUs."""
        try:
            return self._open(self.path)
        except SourceError as error:
            if any(words in str(error) for words in _NOT_THERE):
                return None
            raise

    def _open_graph(self, model: ir.Model) -> onnxruntime.InferenceSession:
        with scratch() as folder:
            # Weights go into a file of their own: they may be larger than one protobuf message can be.
            file = Path(folder) / "graph.onnx"
            ir.save(model, file, external_data="graph.data")
            return self._open(file)

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
        outputs = self._answer(self.session, feeds)
        if self._own is not None and self.distance is not None:
            self.distance.add(feeds, self._answer(self._own, feeds), outputs)
            self.distance.check(self.path)
        return outputs

    def _answer(self, session: onnxruntime.InferenceSession, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        wanted = self._typed(session, feeds)
        try:
            results = session.run(None, wanted)
        except Exception as error:  # onnxruntime raises its own unrelated exception types
            shape = feeds["input_ids"].shape
            raise SourceError(
                f"{self.path}: the source itself does not run on ids of shape {shape}: {error}"
            ) from error
        return dict(zip([o.name for o in session.get_outputs()], results, strict=True))

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
        return find_axes(self.path, lambda feeds: self._answer(self.session, feeds), ranks, self.source)

    def from_text(self, texts: Sequence[Text]) -> Answers:
        """Return token ids and outputs of texts, by the source's own tokenizer."""
        names = [i.name for i in self.session.get_inputs()]
        return self.tokens.answer(texts, names, self.run, [n for n, axes in self.axes.items() if "sequence" in axes])

    def inside(self, feeds: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
        """Return inner values by their names in the file; unknown names are left out."""
        reading = _read(self.path)
        model = reading.model
        drop_inner_rounding(model)
        values = ir.convenience.create_value_mapping(model.graph)
        known = [n for n in names if n in values]
        if not known:
            return {}
        part = ir.convenience.extract(model.graph, list(model.graph.inputs), [values[n] for n in known])
        session = self._open_graph(ir.Model(part, ir_version=model.ir_version))
        return dict(zip(known, session.run(known, self._typed(session, feeds)), strict=True))

    def close(self) -> None:
        """Free the sessions."""
        self._session = self._own = None
