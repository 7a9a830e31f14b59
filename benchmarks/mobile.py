"""Every target for phones and pages by dtype, and two packages of MiniLM-L6 within a size: one command makes both tables.

    python -m benchmarks.mobile [--only table|packages] [--rounds 30]

Table: MiniLM-L6 with the movie classifier's head, and a random model of MobileBERT's shape; MB of the artifact, parity with its own graph,
accuracy, latency of one text of 64 tokens in that target's own runtime on this processor, all pinned to one core, as a multiple of ONNX
Runtime's float32 in the same rounds, and operators that the runtime's accelerated part left. A target that is not there says why.

Packages: the recipes `mobile-12mb.yaml` and `mobile-6mb.yaml` in `benchmarks/recipes` for the movie classifier and for similarity of
news, laid out for Android, everything counted. A bundle of the same recipe that is in `build/mobile` already is not made again.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from headway import Bundle
from headway.errors import HeadwayError
from headway.exporter.bench.measure import Case, Contestant, feeds_for, machine, measure
from headway.exporter.export import export
from headway.exporter.package.packager import package
from headway.exporter.recipe.recipe import Recipe, make_recipe, read_recipe
from headway.exporter.targets.registry import target_of
from headway.exporter.targets.web.wasm import WasmRunner
from headway.manifest import Manifest
from headway.runners.base import Runner
from headway.text import TextEncoder

from .data import movies
from .finetune import movie_classifier
from .int8 import accuracy
from .models import mobilebert
from .phone_models import TASKS
from .results import kept, save

OUT = Path("build/mobile")
TARGETS = ("ort", "ort-mobile", "web", "executorch", "litert", "coreml")
DTYPES = ("fp32", "fp16", "int8")
CASE = Case(1, 64)
CALIBRATION = 512
BUDGETS = {"mobile-12mb": 12.0, "mobile-6mb": 6.0}


@dataclass
class Row:
    """One target and dtype; `reason`: why there are no figures."""

    target: str
    dtype: str
    reason: str | None = None
    mb: float | None = None
    parity: float | None = None
    quality: float | None = None
    ms: float | None = None
    ratio: tuple[float, float, float] | None = None
    not_delegated: int | None = None
    sizes: dict[str, int] | None = field(default=None)


def recipe_for(source: Path, target: str, dtype: str, data: Path) -> Recipe:
    """Return the recipe of a row. UsageError for a dtype that the target does not take."""
    values: dict[str, Any] = {
        "source": str(source),
        "target": target,
        "data": data,
        "max_drop": 100,
        "kernels": "stock",
    }
    if dtype == "int8":
        values["passes"] = [{"kind": "quantize"}]
    elif dtype == "fp16":
        values |= {"dtype": "fp16"} if target in ("ort-mobile", "coreml") else {"passes": [{"kind": "float16"}]}
    if target == "coreml":
        values["verify"] = "module"
    return make_recipe("benchmark", **values)


def made(recipe: Recipe, out: Path) -> Path:
    """Return the bundle of a recipe, made unless it is there."""
    stored = out / "recipe.yaml"
    alike = {"data": None, "task": None, "max_drop": 0.0}  # places and gates change nothing that is made
    if stored.is_file() and read_recipe(stored).model_copy(update=alike) == recipe.model_copy(update=alike):
        return out
    return export(recipe, out, force=True).path


def table_of(name: str, source: Path, data: Path, judge: Callable[[Path], float] | None, rounds: int) -> list[Row]:
    """All rows of one model, the first of them ONNX Runtime's float32."""
    rows: list[Row] = []
    opened: dict[tuple[str, str], Runner] = {}
    encoder: TextEncoder | None = None
    for target in TARGETS:
        for dtype in DTYPES:
            row = Row(target, dtype)
            rows.append(row)
            print(f"{name}: {target} {dtype}", flush=True)
            try:
                recipe = recipe_for(source, target, dtype, data)
                row.reason = target_of(recipe).available()
                if row.reason is not None:
                    continue
                path = made(recipe, OUT / f"{name}-{target}-{dtype}")
                manifest = Manifest.read(path)
                _describe(row, path, manifest)
                if target == "coreml":  # converted, and run by nothing here
                    continue
                bundle = Bundle.open(path, threads=1)
                row.quality = judge(path) if judge is not None else None
                opened[target, dtype] = WasmRunner(path / manifest.artifact, {}) if target == "web" else bundle.runner
                encoder = encoder or bundle.encoder
            except HeadwayError as error:
                row.reason = str(error)
    assert encoder is not None
    _time(rows, opened, encoder, rounds)
    return rows


def _describe(row: Row, path: Path, manifest: Manifest) -> None:
    record = manifest.engine or {}
    stem = manifest.artifact.partition("/")[0]
    size = sum(
        (path / n).stat().st_size
        for n in manifest.files
        if n == manifest.artifact or n.startswith((f"{manifest.artifact}.data", f"{manifest.artifact}/"))
    )
    row.mb = size / 1e6 if size else (path / stem).stat().st_size / 1e6
    row.parity = max(o["max_abs"] for o in manifest.parity["outputs"])
    row.sizes = record.get("sizes")
    row.not_delegated = sum(x["count"] for x in record.get("not_delegated", []))  # in ONNX Runtime nothing is delegated


def _time(rows: list[Row], opened: dict[tuple[str, str], Runner], encoder: TextEncoder, rounds: int) -> None:
    feeds = {CASE: feeds_for(CASE, encoder, movies()["train"].texts, 64)}
    contestants = [Contestant(f"{t} {d}", r.run) for (t, d), r in opened.items()]
    with (
        one_core()
    ):  # WebAssembly runs in a process of its own, on the other core, and its time counts the way there and back
        (case,) = measure(contestants, feeds, rounds=rounds, threads=1, seconds_per_case=120).cases
    for row in rows:
        name = f"{row.target} {row.dtype}"
        if name in case.milliseconds:
            row.ms, row.ratio = case.percentile(name, 50), case.ratio(name)


@contextmanager
def one_core() -> Iterator[None]:
    """Pins the process to a core, so that runtimes that take no number of threads get no more than others; ahead of other
    processes where the system allows it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def packages() -> list[dict[str, Any]]:
    """Return the recipes of `BUDGETS` for both tasks: bytes of everything, the figure beside float32's."""
    found = []
    for task in TASKS:
        whole = made(make_recipe("benchmark", source=str(task.source())), OUT / f"{task.name}-float32")
        reference = task.judge(whole)
        for name, budget in BUDGETS.items():
            print(f"{task.name}: {name}", flush=True)
            bundle = made(task.recipe(name, OUT), OUT / f"{task.name}-{name}")
            manifest = Manifest.read(bundle)
            row: dict[str, Any] = {"task": task.name, "recipe": name, "metric": task.metric, "float32": reference}
            row |= {"quality": task.judge(bundle), "sizes": (manifest.engine or {}).get("sizes")}
            compression = manifest.compression or {}
            row["stages"] = [{k: s[k] for k in ("name", "nbytes", "ms", "quality")} for s in compression["stages"]]
            try:
                done = package(bundle, "android", OUT / f"{task.name}-{name}-android", max_mb=budget, force=True)
                row |= {"mb": done.nbytes / 1e6, "files": done.files}
            except HeadwayError as error:
                row["reason"] = str(error)
            found.append(row)
    return found


def show(console: Console, name: str, rows: list[Row]) -> None:
    title = f"{name}, {CASE.label}, one core"
    table = Table(
        "target", "dtype", "MB", "parity", "accuracy, %", "ms", "x ort fp32", "not delegated", "", title=title
    )
    for row in rows:
        if row.reason is not None:
            table.add_row(row.target, row.dtype, *[""] * 6, row.reason.splitlines()[0][:120])
            continue
        ratio = f"{row.ratio[0]:.2f} ({row.ratio[1]:.2f} to {row.ratio[2]:.2f})" if row.ratio else ""
        quality = f"{row.quality:.2f}" if row.quality is not None else "random weights"
        figures = [quality, f"{row.ms:.1f}", ratio, str(row.not_delegated), ""] if row.ms else ["not run"] * 4
        table.add_row(row.target, row.dtype, f"{row.mb:.1f}", f"{row.parity:.1e}", *figures)
    console.print(table)


def keep(**parts: Any) -> None:
    """Replace parts of the stored result; each part is measured by itself."""
    save("mobile", kept("mobile") | {"machine": machine()} | parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["table", "packages"])
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    console = Console(width=200)
    OUT.mkdir(parents=True, exist_ok=True)
    if given.only != "packages":
        data = OUT / "calibration.txt"
        data.write_text("\n".join(movies()["train"].texts[:CALIBRATION]), encoding="utf-8")
        models = {"MiniLM-L6": (movie_classifier(), accuracy), "MobileBERT's shape": (mobilebert(), None)}
        tables = {}
        for name, (source, judge) in models.items():
            folder = name.replace("'s shape", "").lower()
            rows = table_of(folder, source, data, judge, given.rounds)
            tables[name] = [asdict(r) for r in rows]
            show(console, name, rows)
            keep(table=tables)
    if given.only != "table":
        rows_of_packages = packages()
        keep(packages=rows_of_packages)
        table = Table("task", "recipe", "metric", "float32", "package", "drop", "MB in all", "model MB")
        for row in rows_of_packages:
            drop = row["float32"] - row["quality"]
            figures = [f"{row['float32']:.2f}", f"{row['quality']:.2f}", f"{drop:.2f}"]
            size = f"{row['mb']:.2f}" if "mb" in row else row["reason"]
            table.add_row(
                row["task"], row["recipe"], row["metric"], *figures, size, f"{row['sizes']['total'] / 1e6:.2f}"
            )
        console.print(table)


if __name__ == "__main__":
    main()
