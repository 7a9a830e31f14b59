"""The CPU kernels beside ONNX Runtime's operators and torch: operator by implementation by share of the limit.

    python -m benchmarks.kernels [--threads 1 2] [--rounds 30]

Prints a table, writes JSON and a figure of time against padding to `benchmarks/results/`.
"""

import argparse
from pathlib import Path

from rich.console import Console

from headway.exporter.bench.measure import machine
from headway.exporter.cli.tables import kernels_table
from headway.kernels.cpu.bench import Measured, measure

from .results import save


def plot(rows: list[Measured], path: Path) -> None:
    """Milliseconds against the share of padding, the same real tokens throughout."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    cases = [r for r in rows if r.op == "attention by padding"]
    for name in cases[0].milliseconds:
        axes.plot([r.case for r in cases], [r.median(name) for r in cases], marker="o", label=name)
    axes.set(xlabel="padding", ylabel="milliseconds", ylim=(0, 5 * cases[-1].median("headway, padded")))
    axes.set_title("attention, 1024 real tokens")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    for threads in arguments.threads:
        rows = list(measure(threads, arguments.rounds))
        Console(width=160).print(kernels_table(rows, threads))
        content = {"threads": threads, "machine": machine(), "rows": [r.to_json() for r in rows]}
        plot(rows, save(f"kernels-{threads}-threads", content).with_suffix(".png"))


if __name__ == "__main__":
    main()
