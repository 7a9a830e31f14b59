"""How compression methods act on each other: pairs and triples, beside the sum of their single effects.

    python -m benchmarks.interactions movies|sts [--only heads int8 …] [--most 3] [--texts N] [--minutes 5] [--again]

Heads (8 of 12 stay), neurons (1,024 of 1,536), low rank (6 tenths of the parameters), vocabulary (12,000 of 30,522 tokens), int8, and
distillation from the source. Each combination is one recipe without repair, so that nothing else acts. Movies: accuracy of a fine-tuned
MiniLM-L6. Sts: Pearson correlation of MiniLM-L6's similarities with people's. Every bundle is timed beside the source.

The result is written after each row. A run that was stopped goes on where it was; `--again` begins anew. Distillation alone is not run:
the source distilled from itself is the source.
"""

import argparse
import itertools
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headway import Bundle
from headway.calibration.batches import Batch, make_batches
from headway.errors import HeadwayError
from headway.exporter.bench.measure import machine
from headway.exporter.compress.figures import combined
from headway.exporter.compress.stopwatch import Workload, time_beside
from headway.exporter.export import export
from headway.exporter.recipe.recipe import make_recipe

from .compression_tasks import Answers, Figure, Task, task
from .data import sentences
from .results import FOLDER, kept, save

BLOCKS, HEADS, NEURONS, TOKENS = 6, 8, 1024, 12_000
METHODS: Mapping[str, Mapping[str, Any]] = {
    "vocabulary": {"kind": "trim_vocabulary", "tokens": TOKENS},
    "heads": {"kind": "remove_heads", "keep": dict.fromkeys(range(BLOCKS), HEADS)},
    "neurons": {"kind": "remove_neurons", "keep": dict.fromkeys(range(BLOCKS), NEURONS)},
    "low rank": {"kind": "split", "keep": 0.6},
    "distillation": {"kind": "recover"},
    "int8": {"kind": "quantize"},
}
"""The methods, in the order in which a recipe has them."""

DISTILLATION = "distillation"
SOURCE = "source"
WORK = Path(".cache/interactions")
_ROUNDS = 20
_OTHERS = 12_000
"""So many plain English sentences are learned from beside those of the rated pairs, which alone are too few to trim a vocabulary by."""


def combinations(methods: Sequence[str], most: int) -> list[tuple[str, ...]]:
    """Return the combinations of one to `most` methods, in the order of `METHODS`; distillation alone is none."""
    known = [name for name in METHODS if name in methods]
    sizes = range(1, min(most, len(known)) + 1)
    return [c for size in sizes for c in itertools.combinations(known, size) if c != (DISTILLATION,)]


def passes_of(methods: Sequence[str], minutes: float) -> list[dict[str, Any]]:
    """Return the passes of a combination."""
    return [dict(METHODS[name]) | ({"minutes": minutes} if name == DISTILLATION else {}) for name in methods]


class Bench:
    """A source, its text, and how bundles are judged and timed beside it."""

    def __init__(self, name: str, texts: int | None, minutes: float, folder: Path, result: str):
        self.name, self.minutes, self.folder = name, minutes, folder
        self.task: Task = task(name)
        self._learned = folder / "learned.txt"
        others = sentences()[:_OTHERS] if name == "sts" else []
        self._learned.write_text("\n".join([*self.task.train, *others][:texts]), encoding="utf-8")
        self.work = WORK / result
        self.work.mkdir(parents=True, exist_ok=True)
        self.source = self._opened(export(self._recipe(()), folder / SOURCE).path)
        lengths = np.concatenate([batch.mask.sum(axis=-1) for batch in self._judged(self.source)])
        self.workload = Workload.of(lengths, threads=1)
        self.answers = self._answers(self.source)
        self.figure = self._figure(self.answers)

    def _recipe(self, methods: Sequence[str]) -> Any:
        given = {"data": self._learned, "passes": passes_of(methods, self.minutes)} if methods else {}
        return make_recipe("interactions", source=str(self.task.directory), max_drop=100, **given)

    def _opened(self, path: Path) -> Bundle:
        return Bundle.open(path, threads=1)

    def _judged(self, bundle: Bundle) -> list[Batch]:
        return make_batches(bundle.encoder, self.task.texts, longest=bundle.encoder.info.max_length, tokens=2048)

    def _answers(self, bundle: Bundle) -> Answers:
        return self.task.answers(bundle.runner, self._judged(bundle))

    def _figure(self, answers: Answers) -> Figure:
        return self.task.figures(answers, self.answers)[0]

    def size(self, bundle: Bundle) -> float:
        """Return MB of everything that a deployment needs of a bundle: a smaller vocabulary makes the tokenizer smaller, too."""
        return (
            sum(record["bytes"] for name, record in bundle.manifest.files.items() if not name.startswith("plots/"))
            / 1e6
        )

    def row(self, methods: tuple[str, ...]) -> dict[str, Any]:
        """Build and measure a combination. One that is refused has the reason in its row."""
        began = time.perf_counter()
        out = self.folder / "bundle"
        row: dict[str, Any] = {"methods": list(methods)}
        try:
            made = export(self._recipe(methods), out, force=True)
            bundle = self._opened(made.path)
            answers = self._answers(bundle)
            np.savez(self._stored(methods), *answers)
            figure = self._figure(answers)
            timing = time_beside(self.source.runner, bundle.runner, self.workload, rounds=_ROUNDS)
            stages = (made.manifest.compression or {"stages": []})["stages"]
            row |= {
                "speedup": 1 / timing.ratio,
                "speedup_interval": [1 / timing.high, 1 / timing.low],
                "mb": self.size(bundle),
                "saving": self.size(self.source) / self.size(bundle),
                "quality": figure.points,
                "lost": self.figure.points - figure.points,
                "lost_interval": figure.lost(self.figure),
                "undone": [stage["name"] for stage in stages if stage["undone"]],
            }
        except HeadwayError as error:
            row["refused"] = str(error)
        finally:
            shutil.rmtree(out, ignore_errors=True)
        return row | {"seconds": time.perf_counter() - began}

    def beyond(self, methods: tuple[str, ...], rows: Mapping[tuple[str, ...], Mapping[str, Any]]) -> dict[str, Any]:
        """Return what a combination does beyond the sum of its methods alone.

        Of quality: points lost more than the sum of the points that each method loses alone, with the 95 % interval over the same texts.
        Of speed and size: the ratio to the product of the methods' own. Nothing where a single effect is missing.
        """
        single = [(name,) for name in methods if name != DISTILLATION]
        if len(methods) < 2 or any("quality" not in rows.get(one, {}) for one in [methods, *single]):
            return {}
        own, *parts = (self._figure(self._read(one)) for one in [methods, *single])
        statistics = [own.statistic, *(part.statistic for part in parts)]
        weights = [-1.0, *([1.0] * len(parts))]
        if len(parts) != 1:
            statistics.append(self.figure.statistic)
            weights.append(1.0 - len(parts))
        more = Figure(combined(statistics, weights), own.count)
        return {
            "beyond_lost": more.points,
            "beyond_lost_interval": more.interval,
            "beyond_speed": rows[methods]["speedup"] / math.prod(rows[one]["speedup"] for one in single),
            "beyond_saving": rows[methods]["saving"] / math.prod(rows[one]["saving"] for one in single),
        }

    def _stored(self, methods: Sequence[str]) -> Path:
        return self.work / f"{'+'.join(methods).replace(' ', '-')}.npz"

    def _read(self, methods: Sequence[str]) -> Answers:
        with np.load(self._stored(methods)) as file:
            return [file[f"arr_{i}"] for i in range(len(file.files))]

    def has(self, methods: Sequence[str]) -> bool:
        """Return whether the answers of a combination are still there."""
        return self._stored(methods).is_file()


def open_rows(result: Mapping[str, Any], wanted: Sequence[tuple[str, ...]], bench: Bench) -> Iterator[tuple[str, ...]]:
    """Yield the combinations that are not in a result yet, or whose answers are no longer there."""
    done = {tuple(row["methods"]) for row in result["rows"] if "refused" in row or bench.has(row["methods"])}
    yield from (methods for methods in wanted if methods not in done)


def run(bench: Bench, name: str, result: dict[str, Any], wanted: Sequence[tuple[str, ...]]) -> None:
    """Measure what is open, and write the result after each row."""
    for number, methods in enumerate(list(open_rows(result, wanted, bench)), start=1):
        row = bench.row(methods)
        rows = {tuple(r["methods"]): r for r in result["rows"]} | {methods: row}
        row |= bench.beyond(methods, rows)
        result["rows"] = list(rows.values())
        save(name, result)
        print(number, {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Draw what each combination loses beyond the sum of its methods, with intervals; triples below pairs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in result["rows"] if "beyond_lost" in row]
    if not rows:
        return
    rows.sort(key=lambda row: (-len(row["methods"]), -row["beyond_lost"]))
    figure, axes = plt.subplots(figsize=(8, 1 + 0.24 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        low, high = row["beyond_lost_interval"]
        color = "#1b6ca8" if len(row["methods"]) == 2 else "#e08e45"
        axes.plot([low, high], [place, place], color=color, linewidth=1.2)
        axes.plot([row["beyond_lost"]], [place], "o", color=color, markersize=4)
    axes.axvline(0, color="#999999", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(rows)), [" + ".join(row["methods"]) for row in rows], fontsize=8)
    axes.set_xlabel("points lost beyond the sum of single effects; left of 0 is less than the sum", fontsize=9)
    axes.set_title(result["title"], fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    """Measure what is open, and draw the plot."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.interactions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", choices=["movies", "sts"])
    parser.add_argument("--only", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="METHOD")
    parser.add_argument("--most", type=int, choices=[1, 2, 3], default=3, help="methods in a combination")
    parser.add_argument("--texts", type=int, help="texts to learn from; all of the task where not given")
    parser.add_argument("--minutes", type=float, default=5.0, help="of distillation")
    parser.add_argument("--again", action="store_true", help="begin anew")
    parser.add_argument("--name", help="of the result; interactions-TASK where not given")
    given = parser.parse_args()
    name = given.name or f"interactions-{given.task}"
    settings = {"texts": given.texts, "minutes": given.minutes}
    result = {} if given.again else kept(name)
    if result and result["settings"] != settings:
        sys.exit(
            f"{FOLDER / name}.json was measured with {result['settings']}: give the same, or --again to begin anew"
        )
    if result and result.get("machine") != machine():
        sys.exit(
            f"{FOLDER / name}.json was measured on another machine, or with other libraries: give --again to begin anew"
        )
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(given.task, given.texts, given.minutes, Path(folder), name)
        quality = {
            "quality": bench.figure.points,
            "quality_interval": bench.figure.interval,
            "mb": bench.size(bench.source),
        }
        about = {"task": given.task, "title": bench.task.title, "metric": bench.task.metric, "settings": settings}
        about |= {"workload": str(bench.workload), "source": quality, "machine": machine()}
        result = about | {"rows": result.get("rows", [])}
        run(bench, name, result, combinations(given.only, given.most))
    plot(result, save(name, result).with_suffix(".png"))


if __name__ == "__main__":
    main()
