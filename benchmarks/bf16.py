"""Weights in bfloat16 against float32 and against OpenVINO as it comes, which computes in bfloat16 where the processor does.

    python -m benchmarks.bf16 [--models minilm mpnet] [--threads 1 2] [--rounds 15]

Each contestant is a process of its own, and all take turns: Headway's bfloat16 and float32 with its own kernels, the stock graph in
ONNX Runtime, OpenVINO as it comes and in float32. Prints tables with bootstrap intervals, writes JSON to `benchmarks/results/`.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

from headway.exporter.bench.measure import BenchResult, Case
from headway.exporter.cli.tables import bench_table
from headway.exporter.export import export
from headway.exporter.recipe.recipe import make_recipe

from .compare import run
from .models import minilm, mpnet
from .peers.artifacts import Peer, torch_onnx
from .peers.environments import python_of
from .results import save

MODELS = {"minilm": minilm, "mpnet": mpnet}
CASES = (Case(1, 8), Case(1, 16), Case(1, 32), Case(1, 128), Case(8, 128), Case(1, 512), Case(32, None))
RIVAL = "OpenVINO"
AIM = 1.1
FORMS = {
    "Headway bf16": {"kernels": "custom", "dtype": "bf16"},
    "Headway float32": {"kernels": "custom"},
    "ONNX Runtime float32": {"kernels": "stock"},
}


def contestants(model: Path, name: str) -> list[Peer]:
    """Return Headway's bundles and OpenVINO, the first one that of bfloat16."""
    task = "feature-extraction"
    own = [
        export(
            make_recipe("benchmark", source=str(model), task=task, **form),
            Path("build/bf16") / f"{name}-{kind.lower().replace(' ', '-')}",
            force=True,
        ).path
        for kind, form in FORMS.items()
    ]
    plain, python = torch_onnx(model), python_of("openvino")
    peers = [Peer(kind, "headway", Path(sys.executable), path) for kind, path in zip(FORMS, own, strict=True)]
    return [*peers, Peer(RIVAL, "openvino", python, plain), Peer(f"{RIVAL} float32", "openvino_float32", python, plain)]


def verdict(result: BenchResult) -> list[str]:
    """Return how many times as long OpenVINO takes, case by case, and whether that is what we aim at."""
    lines, ratios = [], []
    for case in result.cases:
        ratio, low, high = case.ratio(RIVAL)
        ratios.append(ratio)
        word = "reached" if low >= AIM else "missed" if high < AIM else "undecided"
        lines.append(f"{case.label:>9}: {RIVAL} takes {ratio:.2f} ({low:.2f} to {high:.2f}) times as long: {word}")
    return [*lines, f"geometric mean: {np.exp(np.mean(np.log(ratios))):.2f}; the aim is {AIM} in each"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    console = Console(width=200)
    for name in arguments.models:
        first, *others = contestants(MODELS[name](), name)
        for threads in arguments.threads:
            result = run(first.artifact, others, threads, arguments.rounds, cases=CASES)
            summary = verdict(result)
            console.print(f"{name}, {threads} thread(s)", bench_table(result), *summary, sep="\n")
            save(f"bf16-{name}-{threads}-threads", result.to_json() | {"verdict": summary})


if __name__ == "__main__":
    main()
