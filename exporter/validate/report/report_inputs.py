"""Read what a report is made from: manifests, verdicts of `headway gate`, and sensitivities, each checked before it is used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from ....checked import Mismatch, checked
from ....errors import SourceError, UsageError
from ....json_file import read_any_json
from ....manifest import MANIFEST, Manifest, read_checked
from ..lock import identity_of
from ..outputs import JSON_FILE

_MOST_BYTES = 1 << 26
_SENSITIVITY = "sensitivity.json"


class Interval(TypedDict):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class GateRow(TypedDict):
    """The row of a gate."""

    gate: str
    limit: float
    unit: str
    at_least: bool
    figure: Interval | None
    verdict: Literal["pass", "fail", "undecided"]
    note: str


class Scenario(TypedDict):
    """What a scenario measured; `latencies_ms` in the order of time."""

    percentiles: dict[str, Interval | None]
    latencies_ms: list[float]


class Capacity(TypedDict):
    """The capacity of a server, and the trials by which it was found, each as (rate, late, queries)."""

    rate: float
    trials: list[list[float]]


class Server(TypedDict):
    """What the scenario server found; `p99_ms` belong to its trials, null where queries were too few."""

    capacity: Capacity
    bound_ms: float
    p99_ms: NotRequired[list[Interval | None]]


class SweepCell(TypedDict):
    """One number of threads and one of texts in a batch."""

    threads: int
    batch: int
    samples: int
    p50_ms: Interval | None
    p99_ms: Interval | None
    texts_per_second: Interval | None


class GateFigures(TypedDict, total=False):
    """Figures that the report shows, of those that a gate writes."""

    mb: float
    peak_rss_mb: Interval | None
    cold_starts: list[dict[str, float]]
    warm_up_ms: list[list[float]]
    sweep: list[SweepCell]
    server: Server


class GateFile(TypedDict):
    """What `headway gate` writes as JSON."""

    verdict: Literal["pass", "fail", "undecided"]
    line: str
    bundle: str
    artifact: NotRequired[str]
    mode: str
    gates: list[GateRow]
    remarks: list[str]
    figures: GateFigures
    machine: dict[str, Any]
    crash: str | None


class BenchCase(TypedDict):
    """One case of a bench: milliseconds of every round by contestant."""

    label: str
    batch: int
    tokens: int
    padding: float
    milliseconds: dict[str, list[float]]


class SensitivityGroup(TypedDict):
    """A group of weights that was quantized alone."""

    name: str
    error: float


class SensitivityFile(TypedDict):
    """What `headway sensitivity` writes."""

    model: str
    unit: str
    noise_floor: float
    groups: list[SensitivityGroup]


@dataclass(frozen=True)
class ReportBundle:
    """A bundle of a report. `gate` is the verdict on these very bytes; `outdated` says that there is one on others.

    `cases` are those of the bundle's bench, by which it is the contestant `contestant`.
    """

    name: str
    path: Path
    manifest: Manifest
    gate: Mapping[str, Any] | None = None
    outdated: bool = False
    cases: Sequence[Mapping[str, Any]] = ()
    contestant: str = ""


def read_bundles(paths: Sequence[Path], verdicts: Sequence[Path]) -> list[ReportBundle]:
    """Return bundles with their verdicts: those of `verdicts` (files, or folders with a gate.json), and of a bundle's own folder.

    A verdict belongs to the bundle whose artifact it was given on. Raises UsageError for one that belongs to none, or where two bundles
    are the same or have several; SourceError for a file that cannot be read, and for a bundle that was changed.
    """
    if not paths:
        raise UsageError("a report needs a bundle: give its directory")
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError("the same bundle is given twice: give each once")
    manifests = [read_checked(path) for path in paths]
    for path, manifest in zip(paths, manifests, strict=True):
        _check_stages(path, manifest)
    names = _names(paths)
    artifacts = [identity_of(path, manifest)["artifact"] for path, manifest in zip(paths, manifests, strict=True)]
    gates: dict[int, Mapping[str, Any]] = {}
    outdated: set[int] = set()
    own = [path / JSON_FILE for path in paths if (path / JSON_FILE).is_file()]
    for place in [*own, *verdicts]:
        file = place / JSON_FILE if place.is_dir() else place
        gate = read_gate(file)
        number = _owner(gate, paths, artifacts)
        if number is None:
            raise UsageError(f"{file}: is the verdict on {gate['bundle']}, which is none of the bundles given: add it")
        if gate.get("artifact") == artifacts[number]:
            if number in gates and place in verdicts:
                raise UsageError(f"{file}: is a second verdict on {gate['bundle']}: give one for each bundle")
            gates[number] = gate
        else:
            outdated.add(number)
    bundles = []
    for number, (path, manifest) in enumerate(zip(paths, manifests, strict=True)):
        cases, contestant = _bench(path, manifest)
        old = number in outdated and number not in gates
        bundles.append(ReportBundle(names[number], path, manifest, gates.get(number), old, cases, contestant))
    return bundles


def _check_stages(path: Path, manifest: Manifest) -> None:
    """Raise SourceError where a compression's figures cannot be drawn."""
    compression = manifest.compression
    if compression is None:
        return
    shapes = compression["workload"]["shapes"]
    if not compression["stages"] or not all(isinstance(s, list) and len(s) == 2 for s in shapes):
        raise SourceError(
            f"{path / MANIFEST}: compression has no stages, or shapes that are none: make the bundle again"
        )


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the last parts of paths, with more of those that would be the same."""
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _owner(gate: Mapping[str, Any], paths: Sequence[Path], artifacts: Sequence[str]) -> int | None:
    if gate.get("artifact") in artifacts:
        same = [number for number, artifact in enumerate(artifacts) if artifact == gate["artifact"]]
        return next((number for number in same if paths[number].resolve().name == gate["bundle"]), same[0])
    return next((number for number, path in enumerate(paths) if path.resolve().name == gate["bundle"]), None)


def read_gate(file: Path) -> Mapping[str, Any]:
    """Return a verdict that `headway gate --out` wrote. UsageError where the file is not there, SourceError where it is another."""
    gate = _read(file, GateFile, "headway gate --out")
    for name, figure in gate["figures"].items():
        if isinstance(figure, dict) and "latencies_ms" in figure:
            _checked(file, Scenario, figure, f"figures.{name}", "headway gate --out")
    return gate


def read_sensitivity(place: Path) -> Mapping[str, Any]:
    """Return what `headway sensitivity` wrote, to a file or into a folder."""
    return _read(place / _SENSITIVITY if place.is_dir() else place, SensitivityFile, "headway sensitivity")


def _read(file: Path, kind: Any, writer: str) -> Any:
    if not file.is_file():
        raise UsageError(f"{file}: no such file: give what `{writer}` wrote, or its folder")
    return _checked(file, kind, read_any_json(file, _MOST_BYTES), "", writer)


def _checked(file: Path, kind: Any, value: Any, place: str, writer: str) -> Any:
    try:
        return checked(kind, value, place)
    except Mismatch as error:
        raise SourceError(f"{file}: {error}: write it again with `{writer}`") from error


def _bench(path: Path, manifest: Manifest) -> tuple[Sequence[Mapping[str, Any]], str]:
    """Return the cases of a bundle's bench, and its name in them; cases in which it has no times are left out."""
    if manifest.bench is None or not manifest.bench["contestants"]:
        return (), ""
    first = manifest.bench["contestants"][0]
    file = path / "headway.json"
    cases = _checked(file, list[BenchCase], manifest.bench["cases"], "bench.cases", "headway bench --save")
    fitting = [case for case in cases if case["batch"] > 0 and min(case["milliseconds"].get(first) or [0.0]) > 0]
    return fitting, first
