"""Read, check and write the manifest of a bundle. Needs nothing but Python: a plan bundle carries this module."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Annotated, Any

from .checked import Between, Mismatch, checked, shown
from .errors import SourceError
from .inside import Folder, check_name
from .json_file import read_any_json
from .manifest_parts import Anatomy, Compression, Measured, Parity, SessionOptions, SourceRecord, check_session_options

MANIFEST = "headway.json"

_MOST_BYTES = 1 << 26
"""The largest manifest that is read; a long one has some 10^5 bytes."""


def file_records(directory: Path) -> dict[str, dict[str, Any]]:
    """Return sha256 and bytes of every file below `directory`, without the manifest itself."""
    records = {}
    for path in sorted(p for p in directory.rglob("*") if p.is_file() and p.name != MANIFEST):
        records[path.relative_to(directory).as_posix()] = {"sha256": digest(path), "bytes": path.stat().st_size}
    return records


def check_records(directory: Path, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Compare files with their sha256; SourceError names one that is missing, outside the directory, or was changed."""
    folder = Folder(directory)
    for name, record in records.items():
        file = folder.file(name)
        check_digest(file, record["sha256"])


def check_digest(file: Path, expected: str) -> None:
    """Raise SourceError where a file has another sha256 than it had."""
    if digest(file) != expected:
        raise SourceError(f"{file}: changed since the bundle was made; copy it again, or make it again")


def digest(path: Path) -> str:
    """Return the sha256 of a file. SourceError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error


SCHEMA_VERSION = 1

_RUNNERS = {".engine": "tensorrt", ".pte": "executorch", ".tflite": "litert", ".mlpackage": "coreml"}
"""The runner by the artifact's suffix, for manifests that do not name one; ONNX Runtime reads all others."""


LONGEST = 1 << 20
"""The most tokens that a manifest may promise: no encoder takes as many."""

_Count = Annotated[int, Between(0, 1 << 53)]
_Id = Annotated[int, Between(0, (1 << 31) - 1)]


@dataclass
class FileRecord:
    """What a file of the bundle has to be."""

    sha256: str
    """The checksum of the file's bytes, in hexadecimal."""

    bytes: _Count
    """The length of the file."""


@dataclass
class TensorInfo:
    """One input or output: dtype by numpy name; symbolic dimensions by name."""

    name: str
    """The name in the graph."""

    dtype: str
    """The numpy name of the dtype, as `int64`."""

    shape: list[Annotated[int, Between(0, 1 << 31)] | str]
    """Sizes of the dimensions; a dynamic one is given by its name, as `batch` or `sequence`."""


def logit_columns(outputs: Sequence[TensorInfo]) -> int | None:
    """Return how many logits a text has; None where there are none, or their number is not fixed."""
    columns = next((o.shape[-1] for o in outputs if o.name == "logits" and o.shape), None)
    return columns if isinstance(columns, int) else None


@dataclass
class TokenizerInfo:
    """How text becomes ids: the limit in tokens, and what padding consists of."""

    file: str
    """The tokenizer file, relative to the bundle."""

    max_length: Annotated[int, Between(1, LONGEST)]
    """The most tokens that the model takes, special tokens included."""

    pad_id: _Id
    """The id that padding has in `input_ids`."""

    pad_type_id: Annotated[int, Between(0, 15)]
    """The id that padding has in `token_type_ids`."""

    pad_token: str
    """The padding token as text."""

    mask_id: _Id | None = None
    """The id of the token that stands for a missing one, for fill-mask; `null` where the tokenizer has none."""

    scripts_gone: list[str] = field(default_factory=list)
    """Scripts of which trimming the vocabulary left single characters alone, as `cyrillic`."""


@dataclass
class Side:
    """How a model of a vector for each token reads queries, or documents."""

    max_length: Annotated[int, Between(1, LONGEST)]
    """The most tokens of a text that are read."""

    skipped: list[_Id] = field(default_factory=list)
    """Ids of tokens that give no vector, as punctuation."""

    only: list[_Id] = field(default_factory=list)
    """Ids of the only tokens that give a vector; empty where all do."""

    expansion_id: _Id | None = None
    """The id of the token that texts are filled up with; `null` where they are not."""

    expansion_length: Annotated[int, Between(0, LONGEST)] = 0
    """How many tokens a text is filled up to."""

    attended: bool = False
    """Whether the other tokens attend to those that a text was filled up with."""


@dataclass
class Manifest:
    """`headway.json`, all of it. Timings live under `bench`, `devices` and `compression`: everything else repeats exactly.

    `runner` names what opens the artifact, see `runners.open`.
    """

    schema_version: int
    """The version of this schema. An older one is upgraded when it is read; a later one is refused."""

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

    prompts: dict[str, str] = field(default_factory=dict)
    """What is put in front of texts, by name, for embeddings: `encode` takes the name."""

    similarity: str = ""
    """The function that compares embeddings, as `cosine`, `dot` or `maxsim`; empty where the task's own is meant, or there is none."""

    sides: dict[str, Side] = field(default_factory=dict)
    """How a `query` and a `document` are read, for multi-vector."""

    route: str = ""
    """The route of a Router of sentence-transformers that the model is, as `query`; empty where there is no Router."""

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
        """Read and check a manifest. SourceError names what is missing or not understood.

        One of an older version is upgraded in memory. Of a later one the message says which Headway reads it.
        """
        path = directory / MANIFEST
        if not path.exists():
            missing = (
                "no such directory" if not directory.exists() else f"no {MANIFEST}, so this is not a Headway bundle"
            )
            raise SourceError(f"{directory}: {missing}")
        raw = _upgraded(path, read_any_json(path, _MOST_BYTES))
        try:
            _check_contents(raw)
            return checked(cls, raw)
        except Mismatch as error:
            raise SourceError(f"{path}: {error}: copy the bundle again, or get it again from who made it") from error


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""By version, the function that makes a manifest of it one of the next version. Only `headway.json` is needed for it."""


def _upgraded(path: Path, raw: Any) -> dict[str, Any]:
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if type(version) is not int or version < min(UPGRADES, default=SCHEMA_VERSION):
        raise SourceError(
            f"{path}: schema version {shown(version)} is none that was ever written; copy the bundle again"
        )
    if version > SCHEMA_VERSION:
        made_by = raw.get("headway_version")
        newer = (
            f"'headway>={made_by}'" if isinstance(made_by, str) and made_by.replace(".", "").isalnum() else "-U headway"
        )
        raise SourceError(
            f"{path}: schema version {version}, and this Headway reads up to {SCHEMA_VERSION}: pip install {newer}, which made it"
        )
    while version < SCHEMA_VERSION:
        raw = UPGRADES[version](raw)
        version += 1
        raw["schema_version"] = version
    return raw


def _check_contents(raw: dict[str, Any]) -> None:
    """Check the parts that stay plain objects, names of files, and options that have to be of a list. Raise Mismatch."""
    for part, kind in _PARTS.items():
        if raw.get(part) is not None:
            checked(kind, raw[part], part)
    if "session_options" in raw:
        check_session_options(checked(SessionOptions, raw["session_options"], "session_options"))
    records = checked(dict[str, FileRecord], raw.get("files", {}), "files")
    tokenizer = raw.get("tokenizer")
    names = {
        "artifact": raw.get("artifact"),
        "tokenizer.file": tokenizer.get("file") if isinstance(tokenizer, dict) else "",
    }
    for place, name in {**names, **{f"files.{name}": name for name in records}}.items():
        try:
            check_name(checked(str, name, place))
        except ValueError as error:
            raise Mismatch(str(error) if isinstance(error, Mismatch) else f"{place}: {error}") from error
    for name, record in records.items():
        if len(record.sha256) != 64 or set(record.sha256) - set("0123456789abcdef"):
            raise Mismatch(f"files.{name}.sha256: 64 hexadecimal digits are expected")
    for number in checked(dict[str, str], raw.get("labels", {}), "labels"):
        if not (number.isascii() and number.isdigit() and len(number) <= 9):
            raise Mismatch(f"labels: {number!r} is no number of a class")


_PARTS: dict[str, Any] = {
    "source": SourceRecord,
    "anatomy": Anatomy,
    "parity": Parity,
    "compression": Compression,
    "bench": Measured,
    "devices": list[Measured],
}


def check_whole(directory: Path, manifest: Manifest) -> None:
    """Raise SourceError naming a listed file that is missing, outside the bundle, or has another length than its manifest says."""
    folder = Folder(directory)
    for name, record in manifest.files.items():
        file = folder.file(name)
        try:
            size = file.stat().st_size
        except OSError as error:
            raise SourceError(f"{file}: cannot be read ({error.strerror})") from error
        if size != record["bytes"]:
            raise SourceError(
                f"{file}: incomplete ({record['bytes']} bytes expected, {size} there); copy the bundle again"
            )


def read_checked(directory: Path) -> "Manifest":
    """Return the manifest of a bundle all of whose files are there and whole. SourceError names the first that is not."""
    manifest = Manifest.read(directory)
    check_whole(directory, manifest)
    check_files(directory, manifest)
    return manifest


def check_files(directory: Path, manifest: Manifest) -> None:
    """Compare every file of a bundle with the sha256 in its manifest; SourceError names one that was changed."""
    if not manifest.files:
        raise SourceError(f"{directory / MANIFEST}: has no checksums; copy the bundle again, or make it again")
    check_records(directory, manifest.files)
