"""Read, check and write the manifest of a bundle. Needs nothing but Python: a plan bundle carries this module."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any

from .errors import SourceError

MANIFEST = "headway.json"


def file_records(directory: Path) -> dict[str, dict[str, Any]]:
    """Return sha256 and bytes of every file below `directory`, without the manifest itself."""
    records = {}
    for path in sorted(p for p in directory.rglob("*") if p.is_file() and p.name != MANIFEST):
        records[path.relative_to(directory).as_posix()] = {"sha256": _digest(path), "bytes": path.stat().st_size}
    return records


def check_records(directory: Path, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Compare files with their sha256; SourceError names one that is missing or was changed."""
    for name, record in records.items():
        file = directory / name
        if not file.is_file():
            raise SourceError(f"{file}: missing; copy the bundle again")
        if _digest(file) != record["sha256"]:
            raise SourceError(f"{file}: changed since the bundle was made; copy it again, or make it again")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


SCHEMA_VERSION = 1

_RUNNERS = {".engine": "tensorrt", ".pte": "executorch", ".tflite": "litert", ".mlpackage": "coreml"}
"""The runner by the artifact's suffix, for manifests that do not name one; ONNX Runtime reads all others."""


@dataclass
class TensorInfo:
    """One input or output: dtype by numpy name; symbolic dimensions by name."""

    name: str
    """The name in the graph."""

    dtype: str
    """The numpy name of the dtype, as `int64`."""

    shape: list[int | str]
    """Sizes of the dimensions; a dynamic one is given by its name, as `batch` or `sequence`."""


@dataclass
class TokenizerInfo:
    """How text becomes ids: the limit in tokens, and what padding consists of."""

    file: str
    """The tokenizer file, relative to the bundle."""

    max_length: int
    """The most tokens that the model takes, special tokens included."""

    pad_id: int
    """The id that padding has in `input_ids`."""

    pad_type_id: int
    """The id that padding has in `token_type_ids`."""

    pad_token: str
    """The padding token as text."""

    mask_id: int | None = None
    """The id of the token that stands for a missing one, for fill-mask; `null` where the tokenizer has none."""


@dataclass
class Manifest:
    """`headway.json`, all of it. Timings live under `bench`, `devices` and `compression`: everything else repeats exactly.

    `runner` names what opens the artifact, see `runners.open`.
    """

    schema_version: int
    """The version of this schema. Another version is refused."""

    headway_version: str
    """The version of Headway that made the bundle."""

    target: str
    """The target that the artifact was made for, as a recipe names it."""

    task: str
    """The task, as `text-classification`."""

    artifact: str
    """The file that the runtime opens, relative to the bundle."""

    inputs: list[TensorInfo]
    """The inputs of the artifact."""

    outputs: list[TensorInfo]
    """The outputs of the artifact."""

    tokenizer: TokenizerInfo
    """The tokenizer and its limits."""

    session_options: dict[str, Any]
    """What the runner sets when it opens the artifact: providers, optimizations, Headway's kernels, splitting of batches by length."""

    source: dict[str, Any]
    """The source: kind, model type, fingerprint (sha256), bytes, declared license, and the fingerprint of the text."""

    anatomy: dict[str, Any]
    """What the model consists of: blocks with heads and widths, embeddings, parameters, bytes, FLOPs."""

    lowering: dict[str, Any]
    """What the target did with the graph, as counts: fused operators, packed attention and the like."""

    parity: dict[str, Any]
    """The comparison with the source: largest differences and tolerances by output, and the texts they occurred on."""

    libraries: dict[str, str]
    """Versions of the libraries that took part."""

    labels: dict[str, str] = field(default_factory=dict)
    """Class names by index, for classification."""

    scoring: dict[str, str] = field(default_factory=dict)
    """How logits become scores, for text-classification: the `kind` (`single-label`, `multi-label` or `value`) and the `activation`
    (`softmax`, `sigmoid`, `tanh` or `identity`)."""

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """sha256 and bytes of every other file of the bundle, by relative path."""

    bench: dict[str, Any] | None = None
    """The latest result of `headway bench`, with the machine it was measured on."""

    compression: dict[str, Any] | None = None
    """What each pass changed and cost: bytes, milliseconds, quality in points, and the reports of the passes."""

    engine: dict[str, Any] | None = None
    """How a target's engine or program was built and checked; `null` where there is nothing to say."""

    devices: list[dict[str, Any]] = field(default_factory=list)
    """Results of `headway bench --device`, one for each device."""

    runner: str = ""
    """What opens the artifact, as `onnxruntime`. Derived from the artifact's suffix in manifests that lack it."""

    def __post_init__(self) -> None:
        self.runner = self.runner or _RUNNERS.get(PurePath(self.artifact).suffix, "onnxruntime")

    def to_json(self) -> str:
        """Return the content of `headway.json`."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, directory: Path) -> "Manifest":
        """Read and check a manifest. SourceError names what is missing or not understood."""
        path = directory / MANIFEST
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SourceError(f"{directory}: no {MANIFEST}, so this is not a Headway bundle") from error
        except (OSError, ValueError) as error:
            raise SourceError(f"{path}: cannot be read ({error})") from error
        if not isinstance(raw, dict) or raw.get("schema_version") != SCHEMA_VERSION:
            version = raw.get("schema_version") if isinstance(raw, dict) else None
            raise SourceError(
                f"{path}: schema version {version!r} is not the {SCHEMA_VERSION} that this Headway reads; export the model again"
            )
        try:
            raw["inputs"] = [TensorInfo(**x) for x in raw["inputs"]]
            raw["outputs"] = [TensorInfo(**x) for x in raw["outputs"]]
            raw["tokenizer"] = TokenizerInfo(**raw["tokenizer"])
            return cls(**raw)
        except (KeyError, TypeError) as error:
            raise SourceError(f"{path}: a field is missing or unknown ({error})") from error


def check_whole(directory: Path, manifest: Manifest) -> None:
    """Raise SourceError naming a file of a bundle that is missing or has another length than its manifest says."""
    for name, record in manifest.files.items():
        file = directory / name
        if not file.is_file() or file.stat().st_size != record["bytes"]:
            raise SourceError(
                f"{file}: missing or incomplete ({record['bytes']} bytes expected); copy the bundle again"
            )


def check_files(directory: Path, manifest: Manifest) -> None:
    """Compare every file of a bundle with the sha256 in its manifest; SourceError names one that was changed."""
    if not manifest.files:
        raise SourceError(f"{directory / MANIFEST}: has no checksums; copy the bundle again, or make it again")
    check_records(directory, manifest.files)
