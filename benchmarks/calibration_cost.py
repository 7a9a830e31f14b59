"""What a calibration costs: whole-process time and peak memory, ours and ONNX Runtime's `quantize_static`, in turn.

    python -m benchmarks.calibration_cost [--rounds 3] [--only min-max percentile entropy] [--many]

MiniLM-L6, one model file, the same 512 movie sentences, the same values (inputs and results of every MatMul), both cores. Our min-max
counts no histograms; one pass with them gives the other three methods, the runtime makes one for each. Its min-max takes texts at
their own length, which is its fastest way; its histograms need samples of equal shape, so there every text is padded to the
longest. `min-max, padded` is its min-max on those same samples, `min-max, every operator` what it does without a choice of
operators. Padding counts in its statistics, so ranges are compared on texts of one length. `--many` is another run: 100,000
sentences, histograms of all of those values, ours alone (ten minutes of one core), with a plot of the memory. Writes JSON; what
is not measured anew is kept.
"""

import argparse
import json
import resource
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from rich.console import Console
from rich.table import Table

from headway.exporter.bench.measure import machine, ratio_interval
from headway.exporter.capture.capture import capture
from headway.exporter.graph.canonical import canonicalize
from headway.exporter.source.source import open_source

from .data import movies, sentences
from .export_cost import cost
from .models import minilm
from .results import kept, save

WORK = Path("build/calibration-cost")
MANY = Path("build/calibration-many")
NAME = "calibration-cost"
TEXTS = 512
ROWS: dict[str, tuple[str, list[str]]] = {
    "min-max": ("min-max", []),
    "min-max, padded": ("min-max", ["--pad"]),
    "min-max, every operator": ("min-max", ["--all"]),
    "percentile": ("percentile", ["--pad"]),
    "entropy": ("entropy", ["--pad"]),
}
"""The runtime's ways: method, options."""


@dataclass(frozen=True)
class Spent:
    """Seconds of wall time and of processors, peak resident bytes: of one process and its children."""

    seconds: float
    cpu: float
    peak: int


def spend(who: str, method: str, folder: Path, *options: str) -> Spent:
    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    command = [sys.executable, "-m", "benchmarks.calibration_worker", who, method, str(folder), *options]
    found = cost(command)
    return Spent(found.seconds, used() - before, found.peak)


def prepare(folder: Path, texts: list[str]) -> None:
    """Return the model file that both read, its tokenizer, and the text."""
    folder.mkdir(parents=True, exist_ok=True)
    source = open_source(str(minilm()))
    captured = capture(source)
    model = canonicalize(captured.model, longest=captured.source.positions).model
    ir.save(model, folder / "model.onnx", external_data="model.onnx.data")
    captured.reference.close()
    shutil.copy(source.directory / "tokenizer.json", folder)
    write_text(folder, texts)


def write_text(folder: Path, texts: list[str]) -> None:
    (folder / "text.txt").write_text("\n".join(" ".join(t.split()) for t in texts), encoding="utf-8")


def token_counts(folder: Path, texts: list[str]) -> list[int]:
    from .calibration_worker import encoder

    encode = encoder(folder)
    return [int(encode([t], 256)["attention_mask"].sum()) for t in texts]


def agreement(folder: Path, texts: list[str]) -> dict[str, float]:
    """Largest difference of a range's ends to the runtime's, as a part of the value's magnitude, on texts of one length.

    Min-max differs only by how kernels round. Percentiles (99.9 here: the default's tail is a single value on so little text)
    differ by bins: of its 2,048 one is 1/2048 of the magnitude, as is ours at most. Entropy is another procedure there
    (128 bins, which grow with the data), so it is not compared.
    """
    counts = token_counts(folder, texts)
    commonest = Counter(counts).most_common(1)[0][0]
    write_text(folder, [t for t, n in zip(texts, counts, strict=True) if n == commonest])
    found: dict[str, float] = {}
    largest: dict[str, float] = {}
    for method in ("min-max", "percentile"):
        ranges = []
        for who in ("headway", "onnxruntime"):
            spend(who, method, folder, "--percentile", "99.9")
            ranges.append(json.loads((folder / f"ranges-{who}.json").read_text(encoding="utf-8")))
        ours, theirs = ranges
        common = ours.keys() & theirs.keys()
        assert len(common) > 50, "the two calibrations name their values differently"
        largest = largest or {n: float(np.abs(ours[n]).max()) for n in common}
        found[method] = max(float(np.abs(np.subtract(theirs[n], ours[n])).max()) / largest[n] for n in common)
    write_text(folder, texts)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--many", action="store_true")
    a = parser.parse_args()
    if a.many:
        many()
        return
    shutil.rmtree(WORK, ignore_errors=True)
    texts = movies()["train"].texts[:TEXTS]
    prepare(WORK, texts)
    longest = max(token_counts(WORK, texts))
    bare = {who: spend(who, "min-max", WORK, "--imports") for who in ("headway", "onnxruntime")}
    results: dict[str, Any] = {
        "machine": machine(),
        "texts": len(texts),
        "longest": longest,
        "imports": {k: vars(v) for k, v in bare.items()},
        "agreement": agreement(WORK, texts),
        "rows": kept(NAME).get("rows", {}),
    }
    table = Table(
        "ONNX Runtime's way",
        "s",
        "ours, s",
        "times as long",
        "cpu times",
        "MB",
        "ours, MB",
        "÷ memory",
        "÷ above imports",
    )
    for name in a.only:
        method, options = ROWS[name]
        options = [str(longest) if o == "" else o for x in options for o in ((x, "") if x == "--pad" else (x,))]
        pairs = [
            (spend("headway", method, WORK), spend("onnxruntime", method, WORK, *options)) for _ in range(a.rounds)
        ]
        ours, theirs = ([p[i] for p in pairs] for i in range(2))
        wall = ratio_interval(*(np.array([s.seconds for s in x]) for x in (ours, theirs)))
        cpu = ratio_interval(*(np.array([s.cpu for s in x]) for x in (ours, theirs)))
        peaks = [max(s.peak for s in x) for x in (ours, theirs)]
        above = (peaks[1] - bare["onnxruntime"].peak) / (peaks[0] - bare["headway"].peak)
        results["rows"][name] = {
            "pairs": [[vars(o), vars(t)] for o, t in pairs], "wall": wall, "cpu": cpu,
            "peak_ratio": peaks[1] / peaks[0], "peak_ratio_above_imports": above,
        }  # fmt: skip
        table.add_row(
            name, *(f"{np.median([s.seconds for s in x]):.1f}" for x in (theirs, ours)),
            f"{wall[0]:.2f} ({wall[1]:.2f} to {wall[2]:.2f})", f"{cpu[0]:.2f} ({cpu[1]:.2f} to {cpu[2]:.2f})",
            f"{peaks[1] / 1e6:.0f}", f"{peaks[0] / 1e6:.0f}", f"{peaks[1] / peaks[0]:.1f}", f"{above:.1f}",
        )  # fmt: skip
        Console(width=160).print(table)
        save(NAME, kept(NAME) | results)
    Console().print(results["agreement"])
    shutil.rmtree(WORK, ignore_errors=True)


def many() -> None:
    """100,000 sentences through ours: resident bytes after every 1,000."""
    shutil.rmtree(MANY, ignore_errors=True)
    prepare(MANY, sentences())
    found = spend("headway", "entropy", MANY, "--workers", "1", "--memory")
    resident = json.loads((MANY / "memory.json").read_text(encoding="utf-8"))
    path = save(NAME, kept(NAME) | {"many": vars(found) | {"resident": resident}})
    plot_memory(resident, path.with_name("calibration-memory.png"))
    shutil.rmtree(MANY, ignore_errors=True)


def plot_memory(resident: list[list[int]], path: Path) -> None:
    """Resident megabytes over texts observed, from 0 up."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot([n for n, _ in resident], [b / 1e6 for _, b in resident], marker=".")
    axes.set(
        xlabel="texts",
        ylabel="resident memory, MB",
        ylim=(0, 1.2 * max(b for _, b in resident) / 1e6),
        title="calibration, MiniLM-L6, one worker",
    )
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
