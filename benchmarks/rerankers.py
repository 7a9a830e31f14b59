"""What a reranker keeps when it is cut and quantized: MiniLM-L6 as a cross-encoder, trained on rated pairs.

    HEADWAY_DATA=path/to/data python -m benchmarks.rerankers

A query is the first text of a rated pair; its texts are the second one, as relevant as people rated it, and nine of other pairs, which are
not. Passes learn from and choose by pairs of 2012 and 2013; nDCG@10 by ratings, and the interval of what is lost, are of pairs of 2014,
which nothing saw. Saves `benchmarks/results/rerankers.json`.
"""

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import headway
from headway import Bundle
from headway.errors import HeadwayError
from headway.exporter.bench.measure import machine
from headway.exporter.compress.stopwatch import Workload, time_beside
from headway.exporter.validate.labeled import Labeled, Model, read_gold
from headway.exporter.validate.non_inferiority import drop_of
from headway.exporter.validate.quality_gate import labels_of
from headway.tasks import Scoring

from .data import GradedPair, graded_pairs
from .finetune import reranker
from .results import save

OTHERS = 9
"""Texts of a query that answer nothing, beside the one that was rated."""

QUERIES = 500
"""So many of each part are taken: ten texts each to answer."""

SPEEDUP, ALLOWED = 1.5, 2.0
"""How much faster is asked for, and the points of nDCG@10 that may be lost."""

_ROUNDS = 30
WAYS: Mapping[str, Mapping[str, Any]] = {
    "int8": {"quantize": "int8"},
    f"cut {SPEEDUP:g}×": {"speedup": SPEEDUP},
    f"cut {SPEEDUP:g}×, int8": {"speedup": SPEEDUP, "quantize": "int8"},
}


def write_queries(path: Path, pairs: list[GradedPair]) -> Path:
    """Write a table of queries with their texts and how relevant these are."""
    rng = np.random.default_rng(0)
    rows = []
    for i in rng.permutation(len(pairs))[:QUERIES]:
        pair = pairs[i]
        others = (pairs[j].second for j in rng.permutation(len(pairs)) if j != i)
        texts = [pair.second]
        while len(texts) <= OTHERS:
            other = next(others)
            texts += [other] if other not in texts else []
        order = rng.permutation(len(texts))
        relevance = np.eye(len(texts))[0] * pair.score
        rows.append(
            {"query": pair.first, "texts": [texts[k] for k in order], "relevance": relevance[order].round(3).tolist()}
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def judged(bundle: Bundle, source: Bundle, gold: Labeled) -> list[dict[str, Any]]:
    """Return each metric of a bundle beside its source's, with the interval of what is lost."""
    models = [Model(b.runner.run, b.encoder, labels_of(b.manifest)) for b in (bundle, source)]
    return [drop_of(metric, ALLOWED).to_json() for metric in gold.score(*models)]


def main() -> None:
    """Train the reranker where it is not there, make the bundles, judge and time them, and write the result."""
    pairs, model = graded_pairs(), reranker()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        learned, asked = (write_queries(folder / f"{part}.jsonl", pairs[part]) for part in ("train", "test"))
        source = Bundle.open(headway.export(model, folder / "source").path, threads=1)
        gold = read_gold(asked, "text-classification", labels_of(source.manifest), Scoring("value", "identity"), None)
        lengths = np.array([len(e.ids) for e in source.encoder.encode(list(gold.texts))])
        workload = Workload.of(lengths, threads=1)
        for way, options in WAYS.items():
            began = time.perf_counter()
            row: dict[str, Any] = {"way": way}
            try:
                made = headway.compress(model, folder / "made", data=learned, max_drop=10, force=True, **options)
                bundle = Bundle.open(made.path, threads=1)
                timing = time_beside(source.runner, bundle.runner, workload, rounds=_ROUNDS)
                row |= {
                    "speedup": [1 / timing.ratio, 1 / timing.high, 1 / timing.low],
                    "mb": sum(r["bytes"] for r in bundle.manifest.files.values()) / 1e6,
                    "agreement": made.manifest.compression and made.manifest.compression["agreement"],
                    "drops": judged(bundle, source, gold),
                }
            except HeadwayError as error:
                row["refused"] = str(error)
            rows.append(row | {"seconds": time.perf_counter() - began})
            queries = {part: min(len(p), QUERIES) for part, p in pairs.items()}
            about = {"machine": machine(), "workload": str(workload), "queries": queries, "allowed": ALLOWED}
            save("rerankers", about | {"rows": rows})
    Console().print(table(rows))


def table(rows: list[dict[str, Any]]) -> Table:
    """Return the figures as a table."""
    drawn = Table("way", "speed-up", "MB", "metric", "points", "source", "lost")
    for row in rows:
        if "refused" in row:
            drawn.add_row(row["way"], row["refused"])
            continue
        for drop in row["drops"]:
            lost = drop["drop"]
            figures = (f"{drop['points']:.2f}", f"{drop['source_points']:.2f}")
            interval = f"{lost['value']:.2f} ({lost['low']:.2f} to {lost['high']:.2f})"
            drawn.add_row(
                row["way"], f"{row['speedup'][0]:.2f}", f"{row['mb']:.1f}", drop["metric"], *figures, interval
            )
    return drawn


if __name__ == "__main__":
    main()
