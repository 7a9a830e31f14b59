"""Name the files of an engine; read the plan by which it is built, and the record of how it was built."""

from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from ..checked import Between, Mismatch, checked
from ..errors import SourceError
from ..json_file import read_json

ENGINE_FILE = "model.engine"
PLAN_FILE = "plan.json"
RECORD_SUFFIX = ".json"

Library = Literal["tensorrt", "tensorrt_rtx"]
"""The packages that build and open engines. A plan names one of them, and no other package is ever imported for it."""

_Size = Annotated[int, Between(1, 1 << 20)]
_Shape = list[_Size]


class ProfileRecord(TypedDict):
    """The batches of one profile, as [texts, tokens]."""

    min: _Shape
    opt: _Shape
    max: _Shape


class PlanSettings(TypedDict):
    """How an engine is built, see `BuildSettings`."""

    gpus: list[str]
    version_compatible: bool
    hardware: Literal["none", "same", "ampere+"]
    stripped: bool
    level: Annotated[int, Between(0, 5)] | None
    kernels: bool
    sparse: NotRequired[bool]


class Plan(TypedDict):
    """What `plan.json` says."""

    library: Library
    inputs: NotRequired[list[str]]
    outputs: NotRequired[dict[str, Annotated[int, Between(0, 8)] | None]]
    profiles: list[ProfileRecord]
    settings: PlanSettings


class EngineRecord(TypedDict):
    """What is recorded beside an engine, as far as opening it depends on it."""

    library: Library
    version: str
    gpus: list[str]
    version_compatible: bool
    hardware: Literal["none", "same", "ampere+"]
    stripped: NotRequired[bool]
    kernels: NotRequired[bool]
    bytes: Annotated[int, Between(0, 1 << 53)]


def read_plan(path: Path) -> dict[str, Any]:
    """Read and check `plan.json`. SourceError names the field that is not understood."""
    plan = _read(path, Plan)
    shapes = [p[kind] for p in plan["profiles"] for kind in ("min", "opt", "max")]
    if not shapes or any(len(shape) != 2 for shape in shapes):
        raise SourceError(f"{path}: profiles: shapes of texts and tokens are expected: copy the bundle again")
    return plan


def read_record(engine: Path) -> dict[str, Any] | None:
    """Return what was recorded when the engine was built (library, version, GPUs, driver, profiles, bytes), or None."""
    path = engine.with_suffix(RECORD_SUFFIX)
    return _read(path, EngineRecord) if path.is_file() else None


def _read(path: Path, kind: type) -> dict[str, Any]:
    try:
        return checked(kind, read_json(path))
    except Mismatch as error:
        raise SourceError(f"{path}: {error}: copy the bundle again, or get it again from who made it") from error
