"""Build a bundle for each of several speeds, and show what each costs: `headway compress --curve`."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import GateError, UsageError
from .. import api
from .progress import stages_of

if TYPE_CHECKING:
    from ..recipe.recipe import Recipe

Progress = Callable[[int], AbstractContextManager[api.Progress]]


@dataclass(frozen=True)
class CurveRow:
    """One speed: what was asked, what came out, and the bundle; or why there is none.

    `interval` is that of `speedup`, 95 %. `drop` is in points of the metric.
    """

    asked: float
    bundle: str | None = None
    speedup: float | None = None
    interval: tuple[float, float] | None = None
    drop: float | None = None
    mb: float | None = None
    refusal: str | None = None


@dataclass(frozen=True)
class Curve:
    """All rows of a curve, the metric of their drops, and the files that were written beside the bundles."""

    metric: str
    rows: list[CurveRow]
    files: list[Path]


def read_speeds(given: str) -> list[float]:
    """Return the speeds that an option names, ascending. Raises UsageError."""
    try:
        speeds = sorted({float(word) for word in given.split(",")})
    except ValueError:
        speeds = []
    if not speeds or not all(1 < s < float("inf") for s in speeds):
        raise UsageError(f"--curve {given}: speeds above 1 with commas between are expected, as 1.25,1.5,2,3")
    return speeds


def build_curve(
    recipes: Sequence[tuple[float, "Recipe"]],
    out: Path,
    *,
    force: bool,
    allow_pickle: bool,
    work: Path | None,
    progress: Progress,
) -> Curve:
    """Make a bundle below `out` for each speed and its recipe, a table as JSON, and a plot.

    A speed that a gate refuses has its reason in the table. Raises UsageError where a bundle is in the way and `force` is not given,
    GateError where no speed passes.
    """
    from ..publish.plots import plot_curve
    from ..publish.staging import output_folder

    folders = [output_folder(out) / f"{speed:g}x" for speed, _ in recipes]
    taken = next((folder for folder in folders if folder.exists()), None)
    if taken is not None and not force:
        raise UsageError(f"{taken} exists; pass --force to replace it")
    rows, metric = [], ""
    for (speed, recipe), folder in zip(recipes, folders, strict=True):
        try:
            with progress(stages_of(recipe)) as tell:
                made = api.export(
                    None, folder, recipe=recipe, force=force, allow_pickle=allow_pickle, work_dir=work, progress=tell
                )
        except GateError as error:
            rows.append(CurveRow(speed, refusal=str(error)))
            continue
        compression = made.manifest.compression or {}
        metric = compression["metric"]
        rows.append(_row(speed, folder.name, compression, made.artifact_bytes))
    if not metric:
        raise GateError(f"no speed of the curve passed its gates: {rows[0].refusal}")
    table = out / "curve.json"
    table.write_text(
        json.dumps({"metric": metric, "rows": [asdict(r) for r in rows]}, indent=2) + "\n", encoding="utf-8"
    )
    plot = out / "curve.png"
    plot_curve([asdict(r) for r in rows if r.refusal is None], metric, plot)
    return Curve(metric, rows, [*(out / r.bundle for r in rows if r.bundle), table, plot])


def _row(asked: float, bundle: str, compression: Any, nbytes: int) -> CurveRow:
    last = compression["stages"][-1]
    low, high = last["latency_ratio"]
    return CurveRow(
        asked,
        bundle,
        compression["speedup"],
        (1 / high, 1 / low),
        compression["source_quality"] - last["quality"],
        nbytes / 1e6,
    )
