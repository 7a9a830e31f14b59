"""Keep the canonical graph of a source in the work folder: tracing takes longer than what another budget changes. Imports torch.

The source's own library is loaded in each run all the same, and its answers judge the graph that was kept.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ...errors import HeadwayWarning
from ..capture.base import Captured
from ..capture.capture import canonical_of, capture
from ..capture.torch_source import load_model
from ..graph.canonical import Canonical
from ..graph.parts import UNREAD
from ..graph.source_rounding import SourceScales
from ..source.source import Source
from .work import Work, key_of

_MOST = 1 << 30
"""Bytes of weights above which a graph is not kept: it would push out what takes longer to learn."""

_LIBRARIES = ("transformers", "sentence-transformers", "optimum", "onnx", "onnxscript", "onnx-ir")
_CODE = ("capture", "graph", "passes", "source")
_SETTINGS = ("*.json", "*.metadata")
_MODEL, _WEIGHTS, _FACTS = "model.onnx", "model.data", "facts.json"


@dataclass(frozen=True)
class _Kept:
    model: ir.Model
    sources: dict[str, str]
    sentences: tuple[str, ...]
    zeros: tuple[str, ...]
    cut: bool
    repeated: bool


class GraphStore:
    """What a work folder has of a source's graph. `whole`: each layer is traced by itself."""

    def __init__(self, source: Source, work: Work, *, whole: bool):
        self._source = source
        self._work = work
        self._whole = whole
        self._key = _key(source, whole) if work.folder is not None else None
        self._kept = work.recall("graph", self._key, _read) if self._key is not None else None

    def capture(self) -> Captured:
        """Return the source with its graph: the one that is kept, which is canonical already, or a new trace. Raises as `capture` does."""
        kept = self._kept
        if kept is None:
            return capture(self._source, whole=self._whole)
        reference, source = load_model(self._source)
        return Captured(kept.model, reference, replace(source, zeros=kept.zeros, cut=kept.cut), kept.repeated)

    def canonical(self, captured: Captured) -> Canonical:
        """Return the canonical graph of what `capture` gave, and keep it for other runs. Raises as `canonical_of` does."""
        kept = self._kept
        if kept is not None:
            for sentence in (*kept.zeros, *kept.sentences):
                warnings.warn(f"{captured.source.spec}: {sentence}", HeadwayWarning, stacklevel=2)
            return Canonical(kept.model, kept.sources, SourceScales(), kept.sentences)
        canonical = canonical_of(captured)
        weights = (value.const_value for value in canonical.model.graph.initializers.values())
        small = sum(weight.nbytes for weight in weights if weight is not None) <= _MOST
        if self._key is not None and small and canonical.rounding == SourceScales():
            self._work.keep("graph", self._key, lambda path: _write(path, captured, canonical))
        return canonical

    def drop(self) -> str:
        """Forget the graph, if it is one that was kept; return a sentence for whoever finds that it is not the source's, or nothing."""
        if self._kept is None or self._key is None:
            return ""
        self._work.forget("graph", self._key)
        return " The graph was kept by an earlier run, and is dropped now: run it again"


def _key(source: Source, whole: bool) -> str | None:
    """Return a name for all that a graph depends on: weights, settings, libraries, and the code that traces and canonicalizes.

    None for sources whose graph is not kept: a compressed form is undone while the model is loaded, and leaves notes that no file has.
    """
    if source.kind != "huggingface" or source.checkpoint is not None or source.directory is None:
        return None
    settings = hashlib.sha256()
    folders = dict.fromkeys([source.directory, source.encoder_directory, *(m.folder for m in source.sentence_modules)])
    try:
        for path in sorted(p for f in folders if f is not None for pattern in _SETTINGS for p in f.glob(pattern)):
            settings.update(f"{path.name}\0".encode() + path.read_bytes())
    except (OSError, ValueError):  # whoever needs the file says so
        return None
    about = [source.fingerprint, settings.hexdigest(), source.task, source.route, whole]
    return key_of("graph", about, {name: _version(name) for name in _LIBRARIES}, _code())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@cache
def _code() -> str:
    digest = hashlib.sha256()
    folder = Path(__file__).parent.parent
    for path in [Path(__file__), *sorted(p for name in _CODE for p in (folder / name).rglob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _write(path: Path, captured: Captured, canonical: Canonical) -> None:
    source = captured.source
    facts: Mapping[str, Any] = {
        "sources": canonical.sources,
        "sentences": canonical.sentences,
        "zeros": source.zeros,
        "cut": source.cut,
        "repeated": captured.repeated,
        "unread": {str(node.name): node.meta[UNREAD] for node in canonical.model.graph if UNREAD in node.meta},
    }
    (path / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
    ir.save(canonical.model, path / _MODEL, external_data=_WEIGHTS)


def _read(path: Path) -> _Kept:
    facts = json.loads((path / _FACTS).read_text(encoding="utf-8"))
    try:
        model = ir.load(path / _MODEL)
    except Exception as error:  # of protobuf and onnx_ir
        raise ValueError(f"{path}: no model ({error})") from error
    if not len(model.graph):
        raise ValueError(f"{path}: an empty model")
    for value in model.graph.initializers.values():
        if value.const_value is not None:  # other runs may clear the folder
            value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)
    for node in model.graph:
        if str(node.name) in facts["unread"]:
            node.meta[UNREAD] = facts["unread"][str(node.name)]
    return _Kept(
        model,
        facts["sources"],
        tuple(facts["sentences"]),
        tuple(facts["zeros"]),
        bool(facts["cut"]),
        bool(facts["repeated"]),
    )
