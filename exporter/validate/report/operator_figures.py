"""Show which kinds of operators take the time of bundles, from ONNX Runtime's profiler; it runs now."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from ....bundle import Bundle
from ....calibration.corpus import lines_or_builtin
from ....errors import TargetError
from ....manifest import check_files
from ....runners.open import graph_of
from ...bench.attribution import profiled
from ...bench.measure import Case, feeds_for
from ...publish.html_report.bar_chart import Bar, BarChart, Row
from ...publish.html_report.report_page import Figure, Section, Table
from .report_inputs import ReportBundle

_LENGTHS = (32, 128)
_MOST_KINDS = 8
OTHERS = "others"


def kinds_of(bundle: ReportBundle, data: Path | None = None, column: str | None = None) -> dict[str, float]:
    """Return milliseconds by operator kind, of a text of 32 tokens and one of 128 together, with one thread.

    Raises SourceError where a file was changed, and TargetError where the bundle does not run in ONNX Runtime here.
    """
    check_files(bundle.path, bundle.manifest)
    if not graph_of(bundle.path / bundle.manifest.artifact).is_file():
        raise TargetError("does not run in ONNX Runtime, whose profiler is read")
    opened = Bundle.open(bundle.path, threads=1)
    longest = opened.manifest.tokenizer.max_length
    lengths = [length for length in _LENGTHS if length <= longest] or [longest]
    lines = lines_or_builtin(data, column)
    feeds = [feeds_for(Case(1, length), opened.encoder, lines, longest) for length in lengths]
    sums: dict[str, float] = defaultdict(float)
    for spent in profiled([(bundle.path, bundle.manifest)], feeds, 1)[0]:
        sums[spent.kind] += spent.ms
    return dict(sums)


def operator_section(kinds: Mapping[str, Mapping[str, float]], missing: Sequence[str]) -> Section:
    """Return the shares of time by kind. `kinds` are milliseconds by bundle and kind; `missing` says what was not profiled."""
    title = "Time by operator"
    shares = {name: _shares(spent) for name, spent in kinds.items() if sum(spent.values()) > 0}
    if not shares:
        return Section(title, missing=missing)
    everything: dict[str, float] = defaultdict(float)
    for one in shares.values():
        for kind, share in one.items():
            everything[kind] += share
    order = sorted(everything, key=lambda kind: (-everything[kind], kind))
    drawn, rest = order[:_MOST_KINDS], order[_MOST_KINDS:]
    groups = [(kind, [kind]) for kind in drawn] + ([(OTHERS, rest)] if rest else [])
    rows = []
    for label, members in groups:
        bars = []
        for number, (name, one) in enumerate(shares.items()):
            share = sum(one.get(kind, 0.0) for kind in members)
            bars.append(Bar(share, f"{name}, {label}: {share:.1f} %", color=number % 6, words=f"{share:.0f} %"))
        rows.append(Row(label, bars))
    cells = [
        [kind, *(f"{kinds[name].get(kind, 0.0):.3f} ({one.get(kind, 0.0):.1f} %)" for name, one in shares.items())]
        for kind in order
    ]
    words = "Parts of the time in all operators, on a text of 32 tokens and one of 128, with one thread; profiled when this page was made."
    most = [f"{name}: {max(one, key=lambda kind: one[kind])} takes most" for name, one in shares.items()]
    table = Table(["operator", *(f"{name}, ms" for name in shares)], cells)
    drawing = BarChart("time by operator", rows, "percent of the time")
    return Section(
        title, [Figure("Shares of the time", words, drawing, list(shares), table)], "; ".join(most) + ".", missing
    )


def _shares(spent: Mapping[str, float]) -> dict[str, float]:
    total = sum(spent.values())
    return {kind: 100 * ms / total for kind, ms in spent.items()}
