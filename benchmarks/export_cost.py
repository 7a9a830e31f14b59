"""What an export costs: whole-process wall time and peak memory, ours and `optimum-cli`, in turn.

    python -m benchmarks.export_cost [--rounds 5] [--big]

`--big` exports and verifies a random encoder of 3 GB, ours alone: it takes minutes, 8 GB of memory and 7 GB of disk.
"""

import argparse
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from headway.exporter.bench.measure import machine, ratio_interval

from .models import bert_base, big_encoder, minilm
from .peers.artifacts import optimum_command, optimum_environment
from .results import save

OUT = Path("build/export-cost")


@dataclass
class Cost:
    """Seconds of wall time and peak bytes of a process and its children; pages that they share count once, whoever else shares them."""

    seconds: float
    peak: int


def _held(processes: Sequence[Any]) -> int:
    """Return the bytes of what each process has to itself, and of the most that one of them shares.

    The share of each in shared pages (PSS) would depend on what else this machine runs: all of its processes share libraries.
    """
    return sum(p.uss for p in processes) + max(p.rss - p.uss for p in processes)


def cost(command: list[str], environment: dict[str, str] | None = None) -> Cost:
    """Run a command to its end; RuntimeError with its last words where it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        root = psutil.Process(process.pid)
        while not done.wait(0.02):
            with suppress(psutil.NoSuchProcess):  # one that ended after it was listed: the next look counts
                family = [root, *root.children(recursive=True)]
                peak = max(peak, _held([p.memory_full_info() for p in family]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed: {output[-500:]}")
    return Cost(seconds, peak)


def ours(model: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "headway.exporter.cli",
        "export",
        str(model),
        "--out",
        str(OUT / "ours"),
        "--force",
        "--quiet",
    ]


def weight_bytes(model: Path) -> int:
    return sum(p.stat().st_size for p in model.glob("*.safetensors"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--big", action="store_true")
    arguments = parser.parse_args()
    shutil.rmtree(OUT, ignore_errors=True)
    table = Table(
        "model",
        "ours s",
        "optimum-cli s",
        "ours / optimum",
        "ours peak, MB and x weights",
        "above imports, x",
        "optimum peak x",
    )
    bare = cost(
        [sys.executable, "-c", "import torch, transformers, onnxscript, onnxruntime, torch.export, torch._dynamo"]
    )
    results: dict[str, object] = {"machine": machine(), "bare_import_peak": bare.peak}
    for name, make in [("minilm", minilm), ("bert_base", bert_base)]:
        model = make()
        theirs = optimum_command(model, OUT / "optimum")
        cost(ours(model)), cost(theirs, optimum_environment())  # a round that warms the disk
        pairs = [(cost(ours(model)), cost(theirs, optimum_environment())) for _ in range(arguments.rounds)]
        a, b = (np.array([p[i].seconds for p in pairs]) for i in range(2))
        ratio, low, high = ratio_interval(b, a)
        peak, other = (max(p[i].peak for p in pairs) for i in range(2))
        weights = weight_bytes(model)
        table.add_row(
            name, f"{np.median(a):.2f}", f"{np.median(b):.2f}", f"{ratio:.3f} ({low:.3f} to {high:.3f})",
            f"{peak / 1e6:.0f}, {peak / weights:.2f}", f"{(peak - bare.peak) / weights:.2f}", f"{other / weights:.2f}",
        )  # fmt: skip
        results[name] = {
            "pairs": [[asdict(x) for x in p] for p in pairs], "ratio": [ratio, low, high], "weights": weights,
            "peak_to_weights": peak / weights, "peak_above_imports_to_weights": (peak - bare.peak) / weights,
            "optimum_peak_to_weights": other / weights,
        }  # fmt: skip
    if arguments.big:
        model = big_encoder()
        found, weights = cost(ours(model)), weight_bytes(model)
        table.add_row(
            "3 GB encoder",
            f"{found.seconds:.1f}",
            "",
            "",
            f"{found.peak / 1e6:.0f}, {found.peak / weights:.2f}",
            "",
            "",
        )
        results["big"] = asdict(found) | {"weights": weights, "peak_to_weights": found.peak / weights}
    Console(width=160).print(table)
    save("export-cost", results)
    shutil.rmtree(OUT, ignore_errors=True)


if __name__ == "__main__":
    main()
