"""What becomes of compressed checkpoints: each form in small, exported beside its uncompressed sibling.

    python -m benchmarks.checkpoint_forms [--rounds 30] [--only TEXT] [--latency] [--large]

Recorded are the sentence, the artifact's bytes, the latency ratio in paired rounds, the time that recognizing takes of an export, and peak
memory. A row carries the machine that it was measured on, since its figures are ratios within one run, and so do its latencies, which
`--latency` measures alone.
`--large` exports 3 GB of random weights in shards with a LoRA adapter, and without it: minutes, and some 10 GB of memory and disk.
"""

import argparse
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from rich.console import Console

from headway.bundle import Bundle
from headway.exporter.bench.measure import Case, CaseResult, feeds_for, machine
from headway.exporter.capture import onnx_file
from headway.exporter.capture.capture import capture
from headway.exporter.export import export
from headway.exporter.package.archive import pack
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source import source as sources

from .export_cost import Cost, cost
from .models import big_encoder
from .results import kept, save
from .wide_checkpoints import ROWS, Row, make_adapter, make_sibling, wide
from tests.support.models import WORDS

CASES = (Case(1, 32), Case(8, 48))
REPEATS = 10
"""Runs in each round, of which the fastest counts: one run takes a millisecond, which a neighbor on the machine can double."""
LINES = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))]


def exporting(model: Path | str, out: Path, *more: str) -> Cost:
    """Export in a process of its own; return what it cost."""
    command = [
        sys.executable,
        "-m",
        "headway.exporter.cli",
        "export",
        str(model),
        "--out",
        str(out),
        "--force",
        "--quiet",
        *more,
    ]
    return cost(command)


def recognizing(model: str) -> float:
    """Return how many seconds a source's form takes to be recognized. What is undone is undone later, when the model is built.

    A file of ONNX is rewritten where it is recognized, and that is part of the time.
    """
    spent = []

    def timed(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            start = time.perf_counter()
            try:
                return original(*args)
            finally:
                spent.append(time.perf_counter() - start)

        return call

    with (
        mock.patch.object(sources, "read_checkpoint", timed(sources.read_checkpoint)),
        mock.patch.object(onnx_file, "read_forms", timed(onnx_file.read_forms)),
    ):
        source = sources.open_source(model, allow_pickle=True)
        if source.kind == "onnx":
            capture(source).reference.close()
    return sum(spent)


def measured(row: Row, folder: Path, rounds: int) -> dict[str, Any]:
    """Return the figures of a row: costs of both exports, bytes of both artifacts, and latency ratios."""
    with wide(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        row.make(folder / "form")
        make_sibling(row, folder / "sibling")
    models = {"sibling": str(folder / "sibling"), "form": row.source(folder / "form")}
    costs = {
        name: exporting(model, folder / f"{name}.out", *(row.more if name == "form" else ()))
        for name, model in models.items()
    }
    bundles = {name: Bundle.open(folder / f"{name}.out", threads=1) for name in costs}
    form = bundles["form"].manifest
    nbytes = {name: _bytes(folder / f"{name}.out", b.manifest.artifact) for name, b in bundles.items()}
    packed = {name: pack(folder / f"{name}.out", folder / f"{name}.tar.gz") for name in bundles}
    seconds = {name: recognizing(model) for name, model in models.items()}
    return {
        "machine": machine(),
        "sentences": form.source["form"],
        "bytes": nbytes,
        "packed": packed,
        "latency": latency(bundles, rounds),
        "recognizing_seconds": seconds,
        "recognizing_share": {name: seconds[name] / costs[name].seconds for name in costs},
        "export": {name: asdict(c) for name, c in costs.items()},
        "peak_ratio": costs["form"].peak / costs["sibling"].peak,
    }


def _bytes(bundle: Path, artifact: str) -> int:
    """Return the bytes of an artifact, and of the weights in files beside it."""
    return sum(p.stat().st_size for p in bundle.glob(f"{artifact}*"))


def only_latency(row: Row, folder: Path, rounds: int, siblings: dict[tuple[Any, ...], Bundle]) -> dict[str, Any]:
    """Return the latencies of a row alone. Siblings, which rows have in common, are exported once, below `folder`."""
    key = (row.task, row.sizes)
    place = folder / str(len(siblings))
    with wide(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if key not in siblings:
            made = make_sibling(row, place / "sibling")
            export(Recipe(source=str(made)), place / "sibling.out")
            siblings[key] = Bundle.open(place / "sibling.out", threads=1)
        with TemporaryDirectory() as own:
            row.make(Path(own) / "form")
            recipe = Recipe(source=row.source(Path(own) / "form"), task=row.task if "--task" in row.more else None)
            export(recipe, Path(own) / "out", allow_pickle="--allow-pickle" in row.more)
            form = Bundle.open(Path(own) / "out", threads=1)
            return latency({"sibling": siblings[key], "form": form}, rounds)


def latency(bundles: Mapping[str, Bundle], rounds: int) -> dict[str, Any]:
    """Return by case how many times as long the form takes as its sibling on one thread, with the 95 % interval, and where."""
    ratios: dict[str, Any] = {"machine": machine(), "rounds": rounds, "threads": 1}
    for case in CASES:
        feeds = {n: feeds_for(case, b.encoder, LINES, b.manifest.tokenizer.max_length) for n, b in bundles.items()}
        ratios[case.label] = _paired(bundles, feeds, case, rounds)
    return ratios


def _paired(
    bundles: Mapping[str, Bundle], feeds: Mapping[str, Any], case: Case, rounds: int
) -> tuple[float, float, float]:
    """Time each bundle on its own ids of one shape: their tokenizers may differ. Who goes first changes each round."""
    given = {name: _taken(bundle, feeds[name]) for name, bundle in bundles.items()}
    times: dict[str, list[float]] = {name: [] for name in bundles}
    names = list(bundles)
    for turn in range(rounds):
        for name in names if turn % 2 else names[::-1]:
            times[name].append(_fastest(bundles[name], given[name]))
    return CaseResult(case.label, case.batch, 0, 0.0, times).ratio("form")


def _fastest(bundle: Bundle, feeds: Mapping[str, Any]) -> float:
    """Return the milliseconds of the fastest of `REPEATS` runs."""
    spent = []
    for _ in range(REPEATS):
        start = time.perf_counter_ns()
        bundle.runner.run(feeds)
        spent.append((time.perf_counter_ns() - start) / 1e6)
    return min(spent)


def _taken(bundle: Bundle, feeds: Mapping[str, Any]) -> dict[str, Any]:
    return {t.name: feeds[t.name] for t in bundle.manifest.inputs}


def large(folder: Path) -> dict[str, Any]:
    """Return what exports of 3 GB in shards cost, without an adapter and with one."""
    base = big_encoder()
    plain = exporting(base, folder / "plain")
    shutil.rmtree(folder / "plain")
    merged = exporting(base, folder / "merged", "--adapter", str(make_adapter(base, folder / "adapter")))
    shards = len(list(base.glob("*.safetensors")))
    nbytes = sum(p.stat().st_size for p in base.glob("*.safetensors"))
    return {
        "machine": machine(),
        "shards": shards,
        "bytes": nbytes,
        "plain": asdict(plain),
        "merged": asdict(merged),
        "peak_ratio": merged.peak / plain.peak,
    }


def main() -> None:
    """Measure rows and keep the results; rows that are not measured keep theirs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", default="", help="rows whose name has this text; others keep their figures")
    parser.add_argument("--latency", action="store_true", help="latencies alone, of rows that were measured before")
    parser.add_argument("--large", action="store_true", help="the checkpoint of 3 GB, alone")
    arguments = parser.parse_args()
    console, before = Console(width=160), kept("checkpoint-forms")
    content = {"rows": before.get("rows", {}), **{k: v for k, v in before.items() if k == "large"}}
    asked = [] if arguments.large else [r for r in ROWS if arguments.only in r.name]
    with TemporaryDirectory() as folder:
        siblings: dict[tuple[Any, ...], Bundle] = {}
        for row in asked if arguments.latency else []:
            if row.name in content["rows"]:
                content["rows"][row.name]["latency"] = only_latency(row, Path(folder), arguments.rounds, siblings)
                console.print(row.name, content["rows"][row.name]["latency"])
                save("checkpoint-forms", content)
    for row in [] if arguments.latency else asked:
        with TemporaryDirectory() as folder:
            content["rows"][row.name] = measured(row, Path(folder), arguments.rounds)
        console.print(row.name, content["rows"][row.name])
        content["rows"] = {r.name: content["rows"][r.name] for r in ROWS if r.name in content["rows"]}
        save("checkpoint-forms", content)
    if arguments.large:
        with TemporaryDirectory() as folder:
            content["large"] = large(Path(folder))
        console.print(content["large"])
        save("checkpoint-forms", content)


if __name__ == "__main__":
    main()
