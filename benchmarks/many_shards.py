"""Calibration on a large corpus in shards: the bits of one worker, and the memory of each, whatever the number of texts and workers.

    python -m benchmarks.many_shards [--texts 1000000] [--folder DIR]

Short random texts in parquet files, a small random BERT (two layers of 32 features), inputs of all its projections with histograms and
second moments. Counted are a tenth of the corpus and all of it: by one thread, by two, and by a Ray cluster on this machine, whose start is
part of its time. What was counted has to be the same to the last bit, and a worker may need a fifth more memory for all of it
than for a tenth. Writes JSON.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from headway.calibration.corpus_shards import Corpus, open_corpus
from headway.calibration.session import Session, save_up_to
from headway.calibration.shard_sums import Counting, ShardSums
from headway.calibration.shards_here import count_here
from headway.exporter.bench.measure import machine
from headway.exporter.capture.capture import capture_canonical
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.source.tokenizer import source_encoder
from headway.text import TextEncoder

from .results import save
from tests.support import models

FILES = 10
WAYS = ("1 thread", "2 threads", "Ray, 2 workers")
MOST_GROWN = 1.2
LONGEST = 12
"""Words of a text, at most."""


def write_corpus(folder: Path, texts: int) -> None:
    """Write texts of 1 to `LONGEST` words to `FILES` parquet files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = np.array([w for w in models.WORDS if w.isalpha()])
    for number in range(FILES):
        rng = np.random.default_rng(number)
        rows = [
            " ".join(words[rng.integers(0, len(words), rng.integers(1, LONGEST + 1))]) for _ in range(texts // FILES)
        ]
        pq.write_table(pa.table({"text": rows}), folder / f"{number}.parquet")


def digest(value: Any, into: Any) -> None:
    """Add all numbers of what was counted to a hash."""
    if is_dataclass(value):
        for field in fields(value):
            digest(getattr(value, field.name), into)
    elif isinstance(value, dict):
        for key in sorted(value):
            into.update(str(key).encode())
            digest(value[key], into)
    else:
        into.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())


@contextmanager
def watched(peaks: dict[int, int]) -> Iterator[None]:
    """Note the most memory that each worker has to itself inside the block, in bytes by its process."""
    done, own = threading.Event(), psutil.Process()

    def watch() -> None:
        while not done.is_set():
            workers = [p for p in own.children(recursive=True) if _is_worker(p)]
            for process in [own, *workers]:
                try:
                    peaks[process.pid] = max(peaks.get(process.pid, 0), process.memory_full_info().uss)
                except psutil.Error:  # it has ended
                    continue
            done.wait(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any("ray::_" in part for part in process.cmdline()[:1])
    except psutil.Error:
        return False


def prepared(source: str, folder: Path) -> tuple[TextEncoder, Counting, Path, dict[str, str]]:
    """Write a source's graph to a folder. Return its encoder, what is counted of it, the graph, and what reads each value."""
    opened, model = capture_canonical(source)
    encoder = source_encoder(opened, folder)
    anatomy = read_anatomy(model)
    values = tuple(dict.fromkeys(str(p.input.name) for block in anatomy.blocks for p in block.projections))
    counting = Counting(values, frozenset(values), True)
    graph = folder / "model.onnx"
    return encoder, counting, graph, dict(save_up_to(model, counting.names, graph))


def ready(way: str, source: Path, corpus: Corpus, folder: Path) -> Callable[[], ShardSums]:
    """Return what counts all shards in one of the `WAYS`."""
    encoder, counting, graph, readers = prepared(str(source), folder)
    if not way.startswith("Ray"):
        session = Session(graph, counting.names, readers)
        return lambda: count_here(session, encoder, corpus, counting, int(way.split()[0]))
    from headway.calibration.shards_on_ray import Sent, count_on_ray

    weights = np.fromfile(graph.with_name(f"{graph.name}.data"), np.uint8)
    sent = Sent.of(graph, weights, readers, encoder, corpus, counting)
    return lambda: count_on_ray("local", sent, weights)


def work(way: str, source: Path, files: list[Path]) -> dict[str, Any]:
    """Count files, and return a digest of what was counted and what it took."""
    peaks: dict[int, int] = {}
    corpus = open_corpus(files)
    with tempfile.TemporaryDirectory() as folder, watched(peaks):
        count = ready(way, source, corpus, Path(folder))
        start = time.perf_counter()
        sums = count()
        seconds = time.perf_counter() - start
    texts = sum(shard.rows for shard in corpus.shards)
    tokens, fingerprint, shards = sums.sums.tokens, sums.fingerprint(), len(corpus.shards)
    found = hashlib.sha256(fingerprint.encode())
    digest(sums.sums.results(), found)
    driver = peaks.pop(os.getpid())
    return {
        "texts": texts,
        "shards": shards,
        "tokens": tokens,
        "seconds": seconds,
        "worker_peak": max(peaks.values(), default=driver),
        "driver_peak": driver,
        "digest": found.hexdigest(),
    }


def measured(folder: Path, way: str, files: int) -> dict[str, Any]:
    """Count the first files in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.many_shards",
        "--way",
        way,
        "--files",
        str(files),
        "--folder",
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{way}: {done.stderr[-1000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def show(console: Console, rows: dict[str, Any]) -> None:
    """Print one table."""
    table = Table("way", "texts", "texts a second", "worker, MB", "driver, MB", "bits")
    for name, row in rows.items():
        table.add_row(
            name,
            f"{row['texts']:,}",
            f"{row['texts'] / row['seconds']:,.0f}",
            f"{row['worker_peak'] / 1e6:.0f}",
            f"{row['driver_peak'] / 1e6:.0f}",
            row["digest"][:12],
        )
    console.print(table)


def main() -> None:
    """Measure all ways on a tenth of the corpus and on all of it, compare what was counted, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the corpus is written; a temporary folder where not given")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--files", type=int, default=FILES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        files = [options.folder / f"{number}.parquet" for number in range(options.files)]
        print(json.dumps(work(options.way, options.folder / "model", files)))
        return
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        models.make_model(folder / "model")
        write_corpus(folder, options.texts)
        rows: dict[str, Any] = {}
        for files in (FILES // 10, FILES):
            for way in WAYS:
                name = f"{way}, {'all' if files == FILES else 'a tenth'}"
                rows[name] = measured(folder, way, files)
                console.print(f"{name}: {rows[name]['seconds']:.0f} s")
    show(console, rows)
    for part in ("all", "a tenth"):
        bits = {row["digest"] for name, row in rows.items() if name.endswith(part)}
        if len(bits) > 1:
            raise SystemExit(f"what was counted on {part} of the corpus differs: {', '.join(sorted(bits))}")
    for way in WAYS:
        grown = rows[f"{way}, all"]["worker_peak"] / rows[f"{way}, a tenth"]["worker_peak"]
        if grown > MOST_GROWN:
            raise SystemExit(f"{way}: a worker takes {grown:.2f} times the memory for ten times the texts")
    save("many-shards", {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
