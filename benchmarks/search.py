"""The front that a search finds, beside random search of the same time and beside the curves of single methods.

    python -m benchmarks.search [--minutes 30] [--workers 2] [--seed 0] [--keep DIR]

MiniLM-L6 fine-tuned on movies, as in `benchmarks.compression`. The searches see the training sentences alone: some to learn from, some to
choose by. All bundles are then judged on the 2,031 sentences that `benchmarks.compression` judges by, and timed beside the source. What a
set of models achieves is one figure, its hypervolume: of all that has less than the source's latency and size and loses less than 10
points, the part that some model of the set beats. Writes JSON and a plot.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from headway.bundle import Bundle
from headway.calibration.batches import Batch, make_batches
from headway.errors import GateError
from headway.exporter.bench.measure import machine
from headway.exporter.compress.stopwatch import Workload, time_beside
from headway.exporter.export import export
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.search.front_file import BUNDLES, read_front
from headway.exporter.search.run_search import SearchRequest, search
from headway.exporter.search.where import crews_for

from .compression_tasks import Figure, Task, task
from .data import movies
from .hypervolume import hypervolume
from .results import FOLDER, save

MOST_LOST = 10.0
"""Points that a model may lose and still count."""


@dataclass(frozen=True)
class Judge:
    """The source, and what its answers are compared with."""

    task: Task
    source: Bundle
    workload: Workload
    figure: Figure
    answers: list[np.ndarray]
    mb: float

    def row(self, path: Path, what: str) -> dict[str, Any]:
        """Return the figures of a bundle on the texts that judge."""
        bundle = Bundle.open(path, threads=1)
        timing = time_beside(self.source.runner, bundle.runner, self.workload, rounds=20)
        figure = self.task.figures(self.task.answers(bundle.runner, batches_of(bundle, self.task.texts)), self.answers)[
            0
        ]
        mb = sum(p.stat().st_size for p in path.glob("*.onnx*")) / 1e6
        return {
            "what": what,
            "latency_ratio": timing.ratio,
            "latency_interval": [timing.low, timing.high],
            "quality": figure.points,
            "lost": self.figure.points - figure.points,
            "lost_interval": figure.lost(self.figure),
            "mb": mb,
        }


def batches_of(bundle: Bundle, texts: Sequence[str]) -> list[Batch]:
    """Return all texts as batches by a bundle's own tokenizer, which may have fewer tokens than the source's."""
    return make_batches(bundle.encoder, texts, longest=bundle.encoder.info.max_length, tokens=2048)


def prepare(folder: Path) -> tuple[Judge, Path]:
    """Return the judge, and the file of the sentences that searches may see."""
    given = task("movies")
    train = movies()["train"]
    file = folder / "movies.jsonl"
    rows = (
        json.dumps({"text": text, "label": int(label)}) for text, label in zip(train.texts, train.labels, strict=True)
    )
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    place = export(make_recipe("benchmark", source=str(given.directory)), folder / "source").path
    bundle = Bundle.open(place, threads=1)
    judged = batches_of(bundle, given.texts)
    answers = given.answers(bundle.runner, judged)
    lengths = np.concatenate([b.mask.sum(1) for b in batches_of(bundle, train.texts[:512])])
    mb = sum(p.stat().st_size for p in place.glob("*.onnx*")) / 1e6
    figure = given.figures(answers, answers)[0]
    return Judge(given, bundle, Workload.of(lengths), figure, answers, mb), file


def searched(
    judge: Judge, file: Path, out: Path, minutes: float, workers: int, seed: int, *, random: bool
) -> dict[str, Any]:
    """Search for so many minutes, and judge what is on the front."""
    recipe = make_recipe(
        "benchmark", source=str(judge.task.directory), data=file, max_drop=MOST_LOST, calibration={"seed": seed}
    )
    request = SearchRequest(recipe, out, minutes, random=random)
    for part, hire in crews_for(request, say, workers=workers, work=out.parent / f"{out.name}-work"):
        try:
            search(part, hire, say)
        except GateError as error:
            print(error, flush=True)
    front = read_front(out)
    rows = [judge.row(out / BUNDLES / b.name, b.what) for b in front.bundles]
    return {
        "minutes": front.seconds / 60,  # of all its runs, where it was stopped and went on
        "trials": front.trials,
        "bundles": len(rows),
        "hypervolume": volume(rows, judge.mb),
        "rows": rows,
    }


def say(name: str, *, of: int | None = None, at: float | None = None) -> None:
    """Tell how far a search is."""
    if of is None or name.startswith("search"):
        print(name, "" if at is None or not of else f"{100 * at / of:.0f} %", flush=True)


def volume(rows: Sequence[dict[str, Any]], mb: float) -> float:
    """Return the hypervolume of models: latency and size as parts of the source's, points lost as parts of `MOST_LOST`."""
    points = [(row["latency_ratio"], max(row["lost"], 0.0) / MOST_LOST, row["mb"] / mb) for row in rows]
    return hypervolume(points, (1.0, 1.0, 1.0))


def single_methods() -> dict[str, dict[str, Any]]:
    """Return the curves of `benchmarks.compression` by method, with their hypervolumes."""
    stored = json.loads((FOLDER / "compression-movies.json").read_text(encoding="utf-8"))
    source = stored["rows"][0]
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in stored["rows"][1:]:
        point = {"latency_ratio": 1 / row["speedup"], "lost": source["quality"] - row["quality"], "mb": row["mb"]}
        curves.setdefault(row["method"], []).append(point)
        curves.setdefault("all of them", []).append(point)
    return {name: {"hypervolume": volume(rows, source["mb"]), "rows": rows} for name, rows in curves.items()}


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw quality lost against latency: the fronts, and the single methods."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, found in result["single methods"].items():
        if name != "all of them":
            axes.plot(*_points(found["rows"]), "o", markersize=3, alpha=0.5, label=name)
    for name, color in (("random search", "#e08e45"), ("search", "#1b6ca8")):
        axes.plot(*_points(result[name]["rows"]), "o-", color=color, label=name)
    axes.set(xlabel="latency, part of the source's", ylabel="points of accuracy lost", ylim=(-2, 2 * MOST_LOST))
    axes.legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)


def _points(rows: Sequence[dict[str, Any]]) -> tuple[list[float], list[float]]:
    ordered = sorted(rows, key=lambda row: row["latency_ratio"])
    return [r["latency_ratio"] for r in ordered], [r["lost"] for r in ordered]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder that keeps the searches, so that a stopped run goes on")
    parser.add_argument("--name", default="search-movies", help="name of the result")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, nullcontext(given.keep or Path(scratch)) as folder:
        folder.mkdir(parents=True, exist_ok=True)
        judge, file = prepare(Path(scratch))
        kept = folder / "movies.jsonl"  # the same path in each run: a search goes on with the same data
        kept.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
        options = (given.minutes, given.workers, given.seed)
        result: dict[str, Any] = {
            "minutes": given.minutes,
            "workers": given.workers,
            "seed": given.seed,
            "workload": str(judge.workload),
            "source": {"quality": judge.figure.points, "mb": judge.mb},
            "search": searched(judge, kept, folder / "search", *options, random=False),
            "random search": searched(judge, kept, folder / "random", *options, random=True),
        }
    result |= {"single methods": single_methods(), "machine": machine()}
    table = Table("models", "bundles", "trials", "hypervolume")
    for name in ("search", "random search"):
        found = result[name]
        table.add_row(name, str(found["bundles"]), str(sum(found["trials"].values())), f"{found['hypervolume']:.4f}")
    for name, found in result["single methods"].items():
        table.add_row(name, str(len(found["rows"])), "", f"{found['hypervolume']:.4f}")
    Console().print(table)
    plot(result, save(given.name, result).with_suffix(".png"))


if __name__ == "__main__":
    main()
