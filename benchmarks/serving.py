"""Serve embeddings under load: Headway and four other ways, one machine, one run, loopback only.

    python -m benchmarks.serving [--seconds 60] [--only NAME …]

Requests are one text each, arriving as a Poisson process at 50, 80, 95 and 120 % of what the server answers when it is saturated. For
each: p50 and p99 of the answered, answers a second, refusals (429), lost requests, and memory before and after. The highest rate with
p99 of at most 50 ms is searched as well. What the server adds to the bare runner is measured with one client that asks both in turn.
LitServe and Triton have environments of their own. Saves `benchmarks/results/serving.json`.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
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
from .servers.load import Answers, kserve_request, poisson, saturate, tei_request
from .servers.overhead import overhead

OUT = Path("build/serving")
SHARES = (0.5, 0.8, 0.95, 1.2)
P99 = 0.05
_SEARCH = 6
"""Steps of the search for the highest rate within P99."""
_SERVERS = Path(__file__).parent / "servers"


@dataclass(frozen=True)
class Server:
    """How a server is started and asked: `port` is the option that its port follows, none where it is the last argument."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    port: Sequence[str] = ("--port",)
    health: str = "/health"
    request: Callable[[str], bytes] = tei_request


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


def servers_of(made: Mapping[str, Path], source: Path) -> dict[str, Server]:
    """Return the servers by name. Each may compute with all processors."""
    lanes = os.cpu_count() or 1
    uvicorn = [sys.executable, "-m", "uvicorn", "--log-level", "error", "--app-dir", str(_SERVERS)]
    serve = [sys.executable, "-m", "headway.exporter.cli", "serve", "--p99", "50ms"]
    stock = {"SERVED_MODEL": str(made["stock"].absolute()), "SERVED_LANES": str(lanes)}
    torch = {"SERVED_MODEL": str(source.absolute()), "OMP_NUM_THREADS": str(lanes)}
    return {
        "headway float32": Server([*serve, str(made["kernels"])]),
        "headway float32, stock operators": Server([*serve, str(made["stock"])]),
        "headway int8": Server([*serve, str(made["int8"])]),
        "fastapi, sentence-transformers": Server([*uvicorn, "sentence_transformers_app:app"], torch),
        "fastapi, onnxruntime": Server([*uvicorn, "onnxruntime_app:app"], stock),
        "litserve, onnxruntime": Server(
            [str(python_of("litserve")), str(_SERVERS / "litserve_app.py")], stock, port=()
        ),
        "triton (pytriton), onnxruntime": Server(
            [str(python_of("pytriton")), str(_SERVERS / "pytriton_app.py")],
            stock,
            port=(),
            health="/v2/models/embed/ready",
            request=kserve_request,
        ),
    }


@contextmanager
def running(server: Server) -> Iterator[tuple[int, psutil.Process]]:
    """Yield port and process of a server that answers, and end it."""
    port = free_port()
    environment = os.environ | server.environment | {"PYTHONSAFEPATH": "1"}
    command = [*server.command, *server.port, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    try:
        for _ in range(1200):
            if process.poll() is not None:
                raise RuntimeError(f"{command}: {process.stderr.read()[-2000:].decode()}")  # type: ignore[union-attr]
            try:
                urlopen(f"http://127.0.0.1:{port}{server.health}", timeout=5).close()
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


def measure(server: Server, texts: Sequence[str], seconds: float) -> dict[str, Any]:
    """Return what one server did under all loads."""
    lines = [server.request(text) for text in texts]
    with running(server) as (port, process):
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
    port: int, process: psutil.Process, lines: Sequence[bytes], share: float, capacity: float, seconds: float
) -> Load:
    before = memory(process)
    answers = poisson(port, lines, share * capacity, seconds, seed=round(100 * share))
    time.sleep(0.5)
    return Load.of(answers, share, share * capacity, before, memory(process))


def _rate_within(port: int, process: psutil.Process, lines: Sequence[bytes], capacity: float, seconds: float) -> float:
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


def beside_bare(name: str, bundle: Path, server: Server, lines: Sequence[str], seconds: float) -> dict[str, Any]:
    """Return what a server adds to the bare runner of its bundle, which another process runs behind a plain socket."""
    port = free_port()
    answer = 4 * int(headway.open(bundle, threads=1)(["a"])["sentence_embedding"].shape[1])
    bare = subprocess.Popen([sys.executable, "-m", "benchmarks.servers.bare_runner", str(bundle), str(port)])
    try:
        with running(server) as (own, _):
            _wait_for(port)
            found = overhead((own, port), lines, server.request, answer, seconds)
    finally:
        bare.kill()
        bare.wait()
    Console().print(name, found)
    return found


def _wait_for(port: int) -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the bare runner does not listen")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of each load")
    parser.add_argument("--only", nargs="*", help="servers to measure anew, or none; the others keep their figures")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    made, lines = bundles(), texts()
    result = kept("serving") if arguments.only is not None else {}
    servers, ways = result.setdefault("servers", {}), servers_of(made, minilm())
    for name, server in ways.items():
        if arguments.only is not None and name not in arguments.only:
            continue
        servers[name] = measure(server, lines, arguments.seconds)
        save("serving", result)
        Console().print(name, servers[name])
    names = {"headway float32": "kernels", "headway int8": "int8"}
    bare = {n: beside_bare(n, made[b], ways[n], lines, arguments.seconds) for n, b in names.items()}
    tokens = [len(e.ids) for e in headway.open(made["stock"]).encoder.encode(lines)]
    result |= {
        "machine": machine(),
        "seconds": arguments.seconds,
        "texts": {"count": len(lines), "mean_tokens": round(statistics.mean(tokens), 1), "most_tokens": max(tokens)},
        "beside_bare": bare,
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
