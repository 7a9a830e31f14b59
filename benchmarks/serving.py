"""Serve embeddings under load: Headway and three other ways, one machine, one run, loopback only.

    python -m benchmarks.serving [--seconds 60] [--only NAME …]

Requests are one text each, arriving as a Poisson process at 50, 80, 95 and 120 % of what the server answers when it is saturated. For
each: p50 and p99 of the answered, answers a second, refusals (429), lost requests, and memory before and after. The highest rate with
p99 of at most 50 ms is searched as well. What the server adds to the bare runner is measured with one client.
LitServe has an environment of its own. Saves `benchmarks/results/serving.json`.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

import headway
from headway.exporter.bench.measure import machine

from . import data
from .models import minilm
from .peers.environments import python_of
from .results import kept, save
from .servers.load import Answers, poisson, saturate

OUT = Path("build/serving")
SHARES = (0.5, 0.8, 0.95, 1.2)
P99 = 0.05
_SEARCH = 6
"""Steps of the search for the highest rate within P99."""
_SERVERS = Path(__file__).parent / "servers"


@dataclass
class Load:
    """One load: `share` of capacity, requests a second asked and answered, milliseconds, counts, resident bytes."""

    share: float
    rate: float
    answered: float
    p50: float
    p99: float
    refused: int
    lost: int
    memory_before: int
    memory_after: int

    @classmethod
    def of(cls, answers: Answers, share: float, rate: float, before: int, after: int) -> "Load":
        times = 1e3 * np.array(answers.seconds or [np.nan])
        p50, p99 = (round(float(np.percentile(times, q)), 2) for q in (50, 99))
        answered = round(len(answers.seconds) / answers.lasted, 1)
        return cls(share, round(rate, 1), answered, p50, p99, answers.refused, answers.lost, before, after)


def texts() -> list[str]:
    """Return mixed texts: short and long sentences of reviews, and some of them joined to paragraphs."""
    sentences = data.movies()["test"].texts
    paragraphs = [" ".join(sentences[i : i + 5]) for i in range(0, 250, 5)]
    return [*sentences[250:1000], *paragraphs]


def bundles() -> dict[str, Path]:
    """Return the bundles, made where they are not there: with stock operators, Headway's kernels, and int8."""
    source, made = minilm(), {}
    for name, changes in {"stock": {}, "kernels": {"kernels": "custom"}}.items():
        made[name] = OUT / name
        if not (made[name] / "headway.json").is_file():
            headway.export(source, made[name], **changes)  # type: ignore[arg-type]
    made["int8"] = OUT / "int8"
    if not (made["int8"] / "headway.json").is_file():
        calibration = OUT / "sentences.txt"
        calibration.write_text("\n".join(data.sentences()[:2000]))
        headway.compress(source, made["int8"], data=calibration, quantize="int8", kernels="custom")
    return made


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def commands(made: dict[str, Path], source: Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Return command and environment of each server, without its port, by name. Each may compute with all processors."""
    lanes = os.cpu_count() or 1
    uvicorn = [sys.executable, "-m", "uvicorn", "--log-level", "error", "--app-dir", str(_SERVERS)]
    serve = [sys.executable, "-m", "headway.exporter.cli", "serve", "--p99", "50ms"]
    stock = {"SERVED_MODEL": str(made["stock"].absolute()), "SERVED_LANES": str(lanes)}
    return {
        "headway float32": ([*serve, str(made["kernels"])], {}),
        "headway float32, stock operators": ([*serve, str(made["stock"])], {}),
        "headway int8": ([*serve, str(made["int8"])], {}),
        "fastapi, sentence-transformers": (
            [*uvicorn, "sentence_transformers_app:app"],
            {"SERVED_MODEL": str(source.absolute()), "OMP_NUM_THREADS": str(lanes)},
        ),
        "fastapi, onnxruntime": ([*uvicorn, "onnxruntime_app:app"], stock),
        "litserve, onnxruntime": ([str(python_of("litserve")), str(_SERVERS / "litserve_app.py")], stock),
    }


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[tuple[int, psutil.Process]]:
    """Yield port and process of a server that answers, and end it."""
    port = free_port()
    place = [str(port)] if command[-1].endswith("litserve_app.py") else ["--port", str(port)]
    environment = os.environ | environment | {"PYTHONSAFEPATH": "1"}
    process = subprocess.Popen([*command, *place], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    try:
        for _ in range(1200):
            if process.poll() is not None:
                raise RuntimeError(f"{command}: {process.stderr.read()[-2000:].decode()}")  # type: ignore[union-attr]
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def memory(process: psutil.Process) -> int:
    """Return the bytes of a server and its children; pages that they share count once where the system tells (Linux)."""
    family = [process, *process.children(recursive=True)]
    return sum(p.memory_full_info().pss if sys.platform == "linux" else p.memory_info().rss for p in family)


def measure(command: list[str], environment: dict[str, str], lines: Sequence[str], seconds: float) -> dict[str, Any]:
    """Return what one server did under all loads."""
    with running(command, environment) as (port, process):
        saturate(port, lines, 4, min(seconds, 5))  # caches, allocations
        alone = saturate(port, lines, 1, min(seconds, 10))
        capacity = max(_answered(saturate(port, lines, n, min(seconds, 10))) for n in (8, 24))
        loads = [_load(port, process, lines, share, capacity, seconds) for share in SHARES]
        return {
            "capacity": round(capacity, 1),
            "alone_ms": round(1e3 * statistics.median(alone.seconds), 3),
            "loads": [asdict(load) for load in loads],
            "rate_within_50ms": _rate_within(port, process, lines, capacity, min(seconds, 20)),
        }


def _answered(answers: Answers) -> float:
    return len(answers.seconds) / answers.lasted


def _load(
    port: int, process: psutil.Process, lines: Sequence[str], share: float, capacity: float, seconds: float
) -> Load:
    before = memory(process)
    answers = poisson(port, lines, share * capacity, seconds, seed=round(100 * share))
    time.sleep(0.5)
    return Load.of(answers, share, share * capacity, before, memory(process))


def _rate_within(port: int, process: psutil.Process, lines: Sequence[str], capacity: float, seconds: float) -> float:
    """Return the most answers a second with a p99 of at most 50 ms, nothing lost and at most one in a hundred refused."""
    low, high, best = 0.0, 1.1, 0.0
    for _ in range(_SEARCH):
        share = (low + high) / 2
        load = _load(port, process, lines, share, capacity, seconds)
        sent = load.rate * seconds
        if load.p99 <= 1e3 * P99 and not load.lost and load.refused <= 0.01 * sent:
            low, best = share, max(best, load.answered)
        else:
            high = share
    return best


def bare_ms(bundle: Path, lines: Sequence[str], seconds: float) -> float:
    """Return the median milliseconds of a text in a bundle without a server, one thread, tokenizing included."""
    opened, times = headway.open(bundle, threads=1), []
    opened(lines[:50])
    end = time.perf_counter() + min(seconds, 10)
    rng = np.random.default_rng(0)
    while time.perf_counter() < end:
        text = lines[rng.integers(len(lines))]
        start = time.perf_counter()
        opened([text])
        times.append(time.perf_counter() - start)
    return round(1e3 * statistics.median(times), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of each load")
    parser.add_argument("--only", nargs="*", help="servers to measure anew; the others keep their figures")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    made, lines = bundles(), texts()
    result = kept("serving") if arguments.only else {}
    servers = result.setdefault("servers", {})
    for name, (command, environment) in commands(made, minilm()).items():
        if arguments.only and name not in arguments.only:
            continue
        servers[name] = measure(command, environment, lines, arguments.seconds)
        Console().print(name, servers[name])
    bare = {name: bare_ms(path, lines, arguments.seconds) for name, path in made.items()}
    tokens = [len(e.ids) for e in headway.open(made["stock"]).encoder.encode(lines)]
    result |= {
        "machine": machine(),
        "seconds": arguments.seconds,
        "texts": {"count": len(lines), "mean_tokens": round(statistics.mean(tokens), 1), "most_tokens": max(tokens)},
        "bare_ms": bare,
    }
    save("serving", result)
    Console().print(table(servers))


def table(servers: dict[str, Any]) -> Table:
    """Return the figures as a table."""
    drawn = Table(
        "server", "capacity/s", "alone ms", *(f"p99 at {share:.0%}" for share in SHARES), "429 at 120%", "/s in 50 ms"
    )
    for name, row in servers.items():
        p99 = [f"{load['p99']:.1f}" for load in row["loads"]]
        refused = str(row["loads"][-1]["refused"])
        drawn.add_row(
            name, f"{row['capacity']:.0f}", f"{row['alone_ms']:.2f}", *p99, refused, f"{row['rate_within_50ms']:.0f}"
        )
    return drawn


if __name__ == "__main__":
    main()
