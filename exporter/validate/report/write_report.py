"""`headway report`: one page on bundles, from what was measured and stored; operators alone are profiled for it."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .... import __version__
from ....errors import HeadwayError, UsageError
from ...publish.html_report.report_page import MOST_BYTES, Report, Section, Table, html_of
from ...publish.writing import written
from ...recipe.recipe import RECIPE_FILE
from ..gate_rows import UNITS
from ..scenarios import SCENARIOS
from .bundle_figures import compare_section
from .card_figures import save_figures
from .latency_figures import latency_section, load_section
from .operator_figures import kinds_of, operator_section
from .pass_figures import pass_section, sensitivity_section
from .report_inputs import ReportBundle, read_bundles, read_sensitivity
from .verdict_figures import process_section, verdict_on

_FACTS = (
    "cpu",
    "features",
    "cores",
    "allowed_cores",
    "threads",
    "system",
    "python",
    "governor",
    "frequency_khz",
    "load",
    "quota",
)
_OF_OTHERS = ("speedup_vs", "max_quality_drop")
"""Gates that need another bundle or text, which a verdict does not name."""

_MODES = {"quick": " --quick", "long": " --long"}


@dataclass(frozen=True)
class ReportRequest:
    """What a report is made of. `verdicts` are files or folders of `headway gate --out`, `sensitivities` of `headway sensitivity`.

    `stored`: nothing is run. `save`: each bundle's own figures go into its card.
    `data` is the text that operators are profiled on, with the column of its text.
    """

    bundles: Sequence[Path]
    out: Path
    verdicts: Sequence[Path] = ()
    sensitivities: Sequence[Path] = ()
    stored: bool = False
    save: bool = False
    data: Path | None = None
    column: str | None = None


def write_report(request: ReportRequest, on_step: Callable[..., None] = lambda *_, **__: None) -> Path:
    """Write the page, and return its place.

    Raises UsageError where there is no bundle, a file given is not there or belongs to no bundle, or the page cannot be written;
    SourceError where a bundle or a file cannot be read.
    """
    if request.out.is_dir() or not request.out.resolve().parent.is_dir():
        raise UsageError(f"{request.out}: a file in a directory that is there is expected, as report.html (--out)")
    if any(request.out.resolve().is_relative_to(path.resolve()) for path in request.bundles):
        raise UsageError(f"{request.out}: is inside a bundle: give another place (--out)")
    on_step("read the bundles")
    bundles = read_bundles(request.bundles, request.verdicts)
    sensitivities = [read_sensitivity(place) for place in request.sensitivities]
    kinds, missing = _profiled(request, bundles, on_step)
    sections = [
        compare_section(bundles),
        *_measured(bundles),
        pass_section(bundles),
        sensitivity_section(bundles, sensitivities),
        operator_section(kinds, missing),
    ]
    title = f"{bundles[0].name}: report" if len(bundles) == 1 else f"Report on {len(bundles)} bundles"
    content = html_of(
        Report(
            title,
            [verdict_on(bundle) for bundle in bundles],
            sections,
            _commands(request, bundles),
            _origin(request),
            list(_machines(bundles)),
        )
    ).encode("utf-8")
    if len(content) >= MOST_BYTES:
        raise UsageError(
            f"the report would have {len(content) / 1e6:.1f} MB, and at most 1 is written: give fewer bundles"
        )
    with written(request.out):
        request.out.write_bytes(content)
    for bundle in bundles if request.save else ():
        own = {bundle.name: kinds[bundle.name]} if bundle.name in kinds else {}
        save_figures(bundle, [*_measured([bundle]), operator_section(own, ())])
    return request.out


def _measured(bundles: Sequence[ReportBundle]) -> list[Section]:
    """Return what runs have measured: latency, load and processes."""
    return [latency_section(bundles), load_section(bundles), process_section(bundles)]


def _origin(request: ReportRequest) -> str:
    """Return where the figures come from, and what the commands leave out."""
    profiled = "" if request.stored else "; operators were profiled for it"
    return (
        f"Made by Headway {__version__} from stored figures{profiled}. A figure that is not here was not measured. Text, source and "
        "baseline of a gate have to be given again."
    )


def _profiled(
    request: ReportRequest, bundles: Sequence[ReportBundle], step: Callable[..., None]
) -> tuple[dict[str, Mapping[str, float]], list[str]]:
    """Return milliseconds by operator of each bundle, and sentences on those that were not profiled."""
    if request.stored:
        return {}, ["Not profiled: the report was made with --stored, which runs nothing."]
    kinds: dict[str, Mapping[str, float]] = {}
    missing = []
    for bundle in bundles:
        step("profile operators", of=len(bundles))
        if bundle.gate and bundle.gate["crash"]:
            missing.append(f"{bundle.name}: was not profiled, since its runner crashed in the gate.")
            continue
        try:
            kinds[bundle.name] = kinds_of(bundle, request.data, request.column)
        except UsageError:
            raise
        except HeadwayError as error:
            missing.append(f"{bundle.name}: was not profiled: {error}.")
    return kinds, missing


def _machines(bundles: Sequence[ReportBundle]) -> list[Table]:
    """Return the facts of every machine that figures come from, each machine once."""
    owners: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for bundle in bundles:
        found = [("gate", bundle.gate["machine"])] if bundle.gate else []
        found += [("bench", bundle.manifest.bench["machine"])] if bundle.manifest.bench else []
        stored = (bundle.manifest.compression or {}).get("machine")
        found += [("compression", stored)] if isinstance(stored, dict) else []
        for what, facts in found:
            owners.setdefault(tuple(_facts(facts)), []).append(f"{bundle.name} ({what})")
    return [
        Table(["figures of", ", ".join(names)], [list(fact) for fact in facts])
        for facts, names in owners.items()
        if facts
    ]


def _facts(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [
        (name.replace("_", " "), _words(machine[name])) for name in _FACTS if machine.get(name) not in (None, [], "")
    ]
    versions = machine.get("versions")
    if isinstance(versions, dict):
        facts.append(("versions", ", ".join(f"{name} {number}" for name, number in versions.items())))
    return facts


def _words(value: Any) -> str:
    return (
        ", ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in value)
        if isinstance(value, list)
        else str(value)
    )


def _commands(request: ReportRequest, bundles: Sequence[ReportBundle]) -> list[str]:
    """Return the commands that make bundles and figures again; places are given by their last names."""
    commands = []
    for bundle in bundles:
        name = shlex.quote(bundle.name)
        if (bundle.path / RECIPE_FILE).is_file():
            commands.append(f"headway export --recipe {shlex.quote(f'{bundle.name}/{RECIPE_FILE}')} --out again")
        if bundle.manifest.bench:
            others = "".join(f" --against {shlex.quote(other)}" for other in bundle.manifest.bench["contestants"][1:])
            commands.append(f"headway bench {name}{others} --threads {bundle.manifest.bench['threads']} --save")
        if bundle.gate:
            commands.append(_gate_command(name, bundle.gate))
    given = [shlex.quote(bundle.name) for bundle in bundles]
    for option, places in (("--verdict", request.verdicts), ("--sensitivity", request.sensitivities)):
        given += [f"{option} {shlex.quote(place.name)}" for place in places]
    commands.append(" ".join(["headway report", *given, *(["--stored"] if request.stored else [])]))
    return commands


def _gate_command(name: str, gate: Mapping[str, Any]) -> str:
    limits = [
        f"--gate {row['gate']}={row['limit']!r}"
        for row in gate["gates"]
        if row["gate"] in UNITS and row["gate"] not in _OF_OTHERS
    ]
    figures = gate["figures"]
    scenarios = [f"--scenario {name}" for name in SCENARIOS if name in figures]
    bound = [f"--bound {figures['server']['bound_ms']:g}"] if "server" in figures else []
    sweep = ["--sweep"] if figures.get("sweep") else []
    threads = [f"--threads {shlex.quote(str(gate['machine']['threads']))}"] if "threads" in gate["machine"] else []
    words = [f"headway gate {name}{_MODES.get(gate['mode'], '')}", *limits, *scenarios, *bound, *sweep, *threads]
    return " ".join(words)
