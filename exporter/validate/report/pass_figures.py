"""Show what each pass saved and cost, and how sensitive the layers are to int8."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...publish.html_report.axis_ticks import shown
from ...publish.html_report.bar_chart import Bar, BarChart, Row
from ...publish.html_report.report_page import Figure, Section, Table
from .cells import by_bundle
from .report_inputs import ReportBundle

_WHOLE, _BETTER, _WORSE = 0, 2, 5
_MOST_GROUPS = 60


def pass_section(bundles: Sequence[ReportBundle]) -> Section:
    """Return the waterfall of every bundle that was compressed."""
    drawn = [figure for bundle in bundles for figure in _waterfalls(bundle)]
    plain = [bundle.name for bundle in bundles if bundle.manifest.compression is None]
    missing = by_bundle((name, "no pass; an export of the source.") for name in plain)
    words = (
        "Each bar goes from what the pass before left to what this one left: green where that is better, red where it is worse. "
        "The first and the last are whole."
    )
    return Section("Passes", drawn, words if drawn else "", missing)


def _waterfalls(bundle: ReportBundle) -> Iterator[Figure]:
    compression = bundle.manifest.compression
    if compression is None:
        return
    stages = compression["stages"]
    rows = [
        [
            _name(s),
            shown(s["nbytes"] / 1e6),
            shown(s["ms"]),
            f"{s['quality']:.2f}",
            "; ".join(f"{k}: {v}" for k, v in s["changes"].items()),
        ]
        for s in stages
    ]
    shapes = ", ".join(f"{b}×{n}" for b, n in compression["workload"]["shapes"])
    table = Table(["after", "MB", "ms", compression["metric"], "changes"], rows)
    for title, label, values, less in (
        ("size", "MB", [s["nbytes"] / 1e6 for s in stages], True),
        ("latency", f"ms on {shapes} tokens", [s["ms"] for s in stages], True),
        ("quality", f"{compression['metric']}, points", [s["quality"] for s in stages], False),
    ):
        drawing = BarChart(title, _steps([_name(s) for s in stages], values, less), label)
        yield Figure(f"{bundle.name}: {title}", "", drawing, table=table)


def _name(stage: Mapping[str, Any]) -> str:
    return f"{stage['name']} (undone)" if stage["undone"] else str(stage["name"])


def _steps(names: Sequence[str], values: Sequence[float], less: bool) -> list[Row]:
    """Return whole bars for the first and what came out, and between them what each pass changed."""
    rows = [Row(names[0], [Bar(values[0], f"{names[0]}: {values[0]:.4g}", words=shown(values[0]), color=_WHOLE)])]
    for name, before, after in zip(names[1:], values, values[1:], strict=False):
        color = _WHOLE if after == before else _BETTER if (after < before) == less else _WORSE
        tip = f"{name}: {before:.4g} → {after:.4g} ({after - before:+.3g})"
        rows.append(Row(name, [Bar(after, tip, before, color, f"{after - before:+.3g}")]))
    if len(values) > 1:
        rows.append(
            Row("result", [Bar(values[-1], f"result: {values[-1]:.4g}", words=shown(values[-1]), color=_WHOLE)])
        )
    return rows


def sensitivity_section(bundles: Sequence[ReportBundle], files: Sequence[Mapping[str, Any]]) -> Section:
    """Return the sensitivity of layers: what compressions stored, and what `headway sensitivity` wrote."""
    drawn = []
    for bundle in bundles:
        stored = bundle.manifest.compression or {}
        errors = stored.get("sensitivity")
        if isinstance(errors, dict) and errors and "sensitivity_unit" in stored:
            groups = [(str(name), float(error)) for name, error in errors.items() if isinstance(error, int | float)]
            drawn.append(
                _sensitivity(
                    bundle.name, groups, stored["sensitivity_unit"], stored.get("sensitivity_noise_floor", 0.0)
                )
            )
    for content in files:
        groups = [(group["name"], group["error"]) for group in content["groups"]]
        if groups:
            drawn.append(_sensitivity(content["model"], groups, content["unit"], content["noise_floor"]))
    missing = (
        []
        if drawn
        else [
            "Not measured: headway compress --search measures it, and so does headway sensitivity, whose folder --sensitivity names."
        ]
    )
    return Section("Sensitivity by layer", drawn, missing=missing)


def _sensitivity(name: str, groups: Sequence[tuple[str, float]], unit: str, floor: float) -> Figure:
    shown_groups = groups
    words = "Each group of weights was quantized to int8 alone. The dashed line is what rounding of the outputs alone would make."
    if len(groups) > _MOST_GROUPS:
        largest = {group for group, _ in sorted(groups, key=lambda item: -item[1])[:_MOST_GROUPS]}
        shown_groups = [item for item in groups if item[0] in largest]
        words += f" The {_MOST_GROUPS} largest of {len(groups)} are drawn."
    rows = [Row(group, [Bar(error, f"{group}: {error:.3g}", words=shown(error))]) for group, error in shown_groups]
    drawing = BarChart("sensitivity by layer", rows, f"error, {unit}", reference=floor or None)
    table = Table(
        ["group", f"error, {unit}", "above the noise"],
        [[g, f"{e:.4g}", "yes" if e > floor else "no"] for g, e in groups],
    )
    return Figure(name, words, drawing, table=table)
