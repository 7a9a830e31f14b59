"""Read and write `front.json`, what a search found, and pick a bundle from it. Needs nothing heavy."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...checked import Mismatch, checked
from ...errors import GateError, SourceError, UsageError
from ...json_file import read_json
from ...manifest import MANIFEST
from ..publish.writing import put_text
from ..recipe.recipe import RECIPE_FILE
from ..validate.merit import merit
from .trial_record import Measured

FRONT = "front.json"
BUNDLES = "bundles"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class FrontBundle:
    """A bundle of the front: its folder in `bundles`, what its trial did, and the words of the command that makes it again.

    `chosen_by`: the points that it lost on the texts to choose by, which put it on the front.
    """

    name: str
    trial: int
    what: str
    settings: dict[str, Any]
    chosen_by: float
    measured: Measured
    merit: float
    command: list[str]

    @property
    def command_line(self) -> str:
        """The command that makes the bundle again, as a shell takes it."""
        return shlex.join(self.command)


@dataclass(frozen=True)
class FrontSource:
    """What the bundles are compared with: milliseconds, megabytes and points of quality of the source."""

    spec: str
    ms: float
    mb: float
    quality: float


@dataclass(frozen=True)
class FrontFile:
    """What a search found. `trials` counts them by how they ended, `texts` the texts by what they were for.

    `node`: the label of the machines that were measured on; empty where that is this machine.
    """

    schema_version: int
    source: FrontSource
    target: str
    metric: str
    workload: dict[str, Any]
    texts: dict[str, int]
    machine: dict[str, Any]
    node: str
    seed: int
    seconds: float
    trials: dict[str, int]
    bundles: list[FrontBundle]

    def write(self, folder: Path) -> None:
        """Write the file into a folder, in one step."""
        put_text(folder / FRONT, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


def merit_of_bundle(source: FrontSource, measured: Measured) -> float:
    """Return the merit of a bundle: see docs/concepts/merit.md."""
    return merit(source.ms / measured.ms, source.mb / measured.mb, measured.lost)


def read_front(folder: Path) -> FrontFile:
    """Read what a search found. UsageError where there is nothing, SourceError where the file is damaged or of a later version."""
    path = folder / FRONT
    if not path.is_file():
        raise UsageError(f"{folder}: holds no {FRONT}: give the --out of headway search, once a trial of it has ended")
    content = read_json(path)
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise SourceError(
            f"{path}: is of version {version!r}, and {SCHEMA_VERSION} is read here: use the Headway that wrote it"
        )
    try:
        front: FrontFile = checked(FrontFile, content)
    except Mismatch as error:
        raise SourceError(
            f"{path}: is damaged ({error}): run the search again, which goes on and writes it anew"
        ) from error
    for bundle in front.bundles:
        if Path(bundle.name).name != bundle.name or bundle.name in ("", ".", ".."):
            raise SourceError(f"{path}: {bundle.name!r} is no name of a bundle")
        if bundle.measured.ms <= 0 or bundle.measured.mb <= 0:
            raise SourceError(f"{path}: bundle {bundle.name} has no latency or no size")
    return front


@dataclass(frozen=True)
class Limits:
    """What a bundle has to meet: at most milliseconds, megabytes and points lost, at least points of quality.

    Raises UsageError for a limit that is no finite number.
    """

    max_ms: float | None = None
    max_mb: float | None = None
    max_memory: float | None = None
    min_quality: float | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not math.isfinite(value):
                raise UsageError(f"{_option(name, value)}: a finite number is expected")

    def missed(self, measured: Measured) -> dict[str, float]:
        """Return by how much a bundle misses each limit, as a part of it; empty where it meets all."""
        most: Mapping[str, tuple[float | None, float | None]] = {
            "max_ms": (self.max_ms, measured.ms),
            "max_mb": (self.max_mb, measured.mb),
            "max_memory": (self.max_memory, measured.rss_mb),
            "max_drop": (self.max_drop, measured.lost),
        }
        off = {}
        for name, (limit, value) in most.items():
            if limit is not None and (value is None or value > limit):
                off[name] = float("inf") if value is None else (value - limit) / max(abs(limit), 1e-9)
        if self.min_quality is not None and measured.quality < self.min_quality:
            off["min_quality"] = (self.min_quality - measured.quality) / max(abs(self.min_quality), 1e-9)
        return off


def pick(front: FrontFile, limits: Limits, where: Path) -> FrontBundle:
    """Return the bundle of most merit of those that meet all limits. GateError where none does: it names the nearest ones.

    UsageError where memory is limited and was not measured.
    """
    if not front.bundles:
        raise GateError(
            f"{where}: the front is empty, no trial made a bundle: search for longer, or with a higher --max-drop"
        )
    if limits.max_memory is not None and all(bundle.measured.rss_mb is None for bundle in front.bundles):
        raise UsageError(
            f"{where}: memory was not measured, which {_option('max_memory', limits.max_memory)} asks for: search with --memory"
        )
    fitting = [bundle for bundle in front.bundles if not limits.missed(bundle.measured)]
    if not fitting:
        raise GateError(
            f"{where}: no bundle meets {_asked(limits)}. The nearest: {_nearest(front.bundles, limits, front.metric)}"
        )
    return max(fitting, key=lambda bundle: (bundle.merit, bundle.name))


def folder_of(where: Path, bundle: FrontBundle) -> Path:
    """Return the folder of a bundle of the front in `where`. SourceError where it is gone.

    A search that goes on does not bring it back: its trial is in the journal, and is not made twice.
    """
    folder = where / BUNDLES / bundle.name
    if not (folder / MANIFEST).is_file():
        raise SourceError(f"{folder}: the bundle is not there any more: {_brought_back(folder, bundle)}")
    return folder


def _brought_back(folder: Path, bundle: FrontBundle) -> str:
    if (folder / RECIPE_FILE).is_file():
        return f"make it again with `{bundle.command_line}`"
    return "its recipe is gone too, so search again with --force, which begins anew, or pick another bundle"


_NEAREST = 3


def _nearest(bundles: Sequence[FrontBundle], limits: Limits, metric: str) -> str:
    ordered = sorted(bundles, key=lambda b: (len(m := limits.missed(b.measured)), sum(m.values()), b.name))
    return "; ".join(f"{b.name} with {figures_of(b.measured, metric)}" for b in ordered[:_NEAREST])


def figures_of(measured: Measured, metric: str) -> str:
    """Return the figures of a bundle in words."""
    rss = f", {measured.rss_mb:.0f} MB of memory" if measured.rss_mb is not None else ""
    return f"{measured.ms:.2f} ms, {measured.mb:.1f} MB{rss}, {measured.quality:.2f} points of {metric}"


def _asked(limits: Limits) -> str:
    given = [_option(name, value) for name, value in asdict(limits).items() if value is not None]
    return " and ".join(given) or "them"


def _option(name: str, value: float) -> str:
    return f"--{name.replace('_', '-')} {value:g}"
