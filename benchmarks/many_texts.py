"""Texts a second of `headway run`, against the bare runner on batches that were made before.

    python -m benchmarks.many_texts [--texts 20000] [--rounds 7] [--lanes 2]

MiniLM-L6, in float32 with Headway's kernels and in int8, on sentences of a movie corpus, repeated. Each round runs the texts by both
ways, one after the other: reading, tokenizing, sorting back and writing parquet on one side, the session alone on the other, with the same
batches and as many threads. Writes `benchmarks/results/many-texts.json`.
"""

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from headway.bulk.shard_run import run
from headway.bulk.texts_to_columns import TextsToColumns, batches
from headway.exporter.bench.measure import machine, ratio_interval
from headway.exporter.export import export
from headway.exporter.recipe.recipe import make_recipe

from .data import movies
from .models import minilm
from .results import save

_KINDS = {
    "float32": {"kernels": "custom"},
    "int8": {"kernels": "custom", "passes": [{"kind": "quantize"}], "max_drop": 5},
}


def measure(bundle: Path, data: Path, lanes: int, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each round, of `headway run` and of the runner alone."""
    runs = TextsToColumns(bundle, lanes=lanes)
    texts = data.read_text(encoding="utf-8").splitlines()
    encodings = runs.bundle.encoder.encode(texts)
    feeds = [
        runs.bundle.encoder.batch([encodings[i] for i in rows])
        for rows in batches([len(e.ids) for e in encodings], runs.budget)
    ]
    whole, bare = [], []
    with ThreadPoolExecutor(lanes) as threads, tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            began = time.perf_counter()
            run(bundle, data, Path(folder) / f"{number}.parquet", lanes=lanes)
            middle = time.perf_counter()
            for _ in threads.map(runs.bundle.runner.run, feeds):
                pass
            whole.append(middle - began)
            bare.append(time.perf_counter() - middle)
    return whole[1:], bare[1:]  # the first opens the bundle


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--lanes", type=int, default=2)
    given = parser.parse_args()
    lines = [line.replace("\n", " ") for line in movies()["train"].texts]
    rows = []
    table = Table("bundle", "texts a second", "of the runner alone", "95 %")
    with tempfile.TemporaryDirectory() as folder:
        data, sample = Path(folder) / "texts.txt", Path(folder) / "sample.txt"
        data.write_text("".join(f"{lines[i % len(lines)]}\n" for i in range(given.texts)), encoding="utf-8")
        sample.write_text("\n".join(lines[:512]), encoding="utf-8")
        for name, changes in _KINDS.items():
            recipe = make_recipe("many texts", source=str(minilm()), data=str(sample), **changes)
            bundle = export(recipe, Path(folder) / name).path
            whole, bare = map(np.array, measure(bundle, data, given.lanes, given.rounds))
            ratio, low, high = ratio_interval(whole, bare)
            rate = given.texts / float(np.median(whole))
            rows.append({"bundle": name, "texts_per_second": rate, "of_the_runner": ratio, "interval": [low, high]})
            table.add_row(name, f"{rate:,.0f}", f"{ratio:.3f}", f"{low:.3f} to {high:.3f}")
    Console().print(table)
    save(
        "many-texts",
        {"texts": given.texts, "rounds": given.rounds, "lanes": given.lanes, "rows": rows, "machine": machine()},
    )


if __name__ == "__main__":
    main()
