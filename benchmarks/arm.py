"""Bundles and artifacts on arm64, without such a machine: numbers beside this machine's. Times would mean nothing and are not taken.

    python -m benchmarks.arm                       # MiniLM-L6 in float32 and int8, and Headway's own kernels
    python -m benchmarks.arm ARTIFACT …            # bundles (of .pte too), or .onnx, .ort and .tflite files
    python -m benchmarks.arm --kernels             # the kernels alone
    python -m benchmarks.arm --processor cortex-a53

Programs for arm64 run one by one in QEMU's user-mode emulation: the aarch64 builds of Python, numpy, tokenizers, ONNX Runtime (or
LiteRT, or ExecuTorch's C++ libraries), and the kernels cross-compiled.
Every artifact answers the same texts here and there; compared are token ids, the largest
difference of any output relative to its own magnitude above 1, and the cosine of each text's answer. How much int8 answers move where
only last bits of float32 differ is seen beside it: this machine with other operators fused. The kernels' own tests run there
too, and their results on random shapes are compared with this machine's, to the bit where they have to be equal. Set up on first
use in `.cache/arm` (about 700 MB), from the configured apt sources and package index. Writes `results/arm.json`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from headway.calibration.corpus import builtin_lines
from headway.exporter.bench.measure import machine
from headway.manifest import MANIFEST, Manifest

from . import arm_operators, arm_worker
from .peers.arm64 import PROCESSORS, Machine, machines, versions
from .results import kept, save

TEXTS = 6
PLUGIN = "tests.support.cpu_kernels"
TESTS = tuple(
    f"tests/kernels/cpu/test_{name}.py"
    for name in (
        "activation", "attention", "layer_norm", "masked_softmax", "op", "padding", "quantized_linear", "simd",
    )
)  # fmt: skip
OUT = Path("build/arm")

Answers = dict[str, np.ndarray]


def default_artifacts() -> dict[str, Path]:
    """MiniLM-L6: Headway's float32 and int8, and the runtime's own dynamic int8 of the float32 graph."""
    from .data import movies
    from .int8 import CALIBRATION, bundles
    from .int8 import OUT as INT8
    from .models import minilm

    names = {"float32": "float32", "int8": "custom", "int8 stock": "stock"}
    made = {name: INT8 / f"minilm-{kind}" for name, kind in names.items()}
    if not all((path / MANIFEST).is_file() for path in made.values()):
        made = bundles(minilm(), movies()["train"].texts[:CALIBRATION], "minilm")
    dynamic = OUT / "minilm-dynamic.onnx"
    if not dynamic.is_file():
        from onnxruntime.quantization import QuantType, quantize_dynamic

        dynamic.parent.mkdir(parents=True, exist_ok=True)
        quantize_dynamic(made["float32"] / "model.onnx", dynamic, per_channel=True, weight_type=QuantType.QInt8)
    return made | {"ONNX Runtime dynamic int8": dynamic}


def native(*arguments: str | Path) -> list[str]:
    """Return the command that runs a program here."""
    return [sys.executable, *map(str, arguments)]


def ask(command: list[str], out: Path) -> Answers:
    """Return what a worker wrote to `out`. SystemExit with its last words where it failed."""
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(out)], capture_output=True, text=True, env=settings)
    if done.returncode:
        raise RuntimeError((done.stderr or f"ended by signal {-done.returncode}").strip().splitlines()[-1])
    with np.load(out) as found:
        return dict(found)


def compare(here: Answers, there: Answers) -> dict[str, Any]:
    """Token ids, bits, largest difference and least cosine of two machines' answers."""
    outputs = [name for name in here if not name.startswith("ids/")]
    differences = [_difference(here[name], there[name]) for name in outputs]
    return {
        "same_ids": all(np.array_equal(here[name], there[name]) for name in here if name.startswith("ids/")),
        "same_bits": all(here[name].tobytes() == there[name].tobytes() for name in outputs),
        "largest_difference": max(differences),
        "least_cosine": min(_cosine(here[name], there[name]) for name in outputs),
    }


def to_float32(answers: Answers, base: Answers) -> list[float]:
    """Mean and least cosine of each text's answer to float32's, over outputs that both have."""
    cosines = [_cosine(value, base[n]) for n, value in answers.items() if n in base and not n.startswith("ids/")]
    return [float(np.mean(cosines)), float(np.min(cosines))] if cosines else []


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        return float("inf")
    a, b = np.nan_to_num(a.astype(np.float64)), np.nan_to_num(b.astype(np.float64))
    return float(np.abs(a - b).max(initial=0) / max(1.0, np.abs(a).max(initial=0)))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def check_artifacts(
    artifacts: dict[str, Path], emulated: list[Machine], console: Console, folder: Path
) -> dict[str, Any]:
    """One entry for each artifact; a runtime that cannot open one there leaves its message."""
    texts = folder / "texts.json"
    lines = builtin_lines()
    texts.write_text(json.dumps(lines[:: max(1, len(lines) // TEXTS)][:TEXTS]), encoding="utf-8")
    tokenizer = next((p for p in artifacts.values() if (p / MANIFEST).is_file()), Path())
    found: dict[str, Any] = {}
    base: Answers = {}
    for name, path in artifacts.items():
        worker = [arm_worker.__file__, path.resolve(), tokenizer.resolve(), texts]
        try:
            here = ask(native(*worker), folder / "here.npz")
        except RuntimeError as error:
            raise SystemExit(f"{name} does not run on this machine: {error}") from error
        base = base or here
        row: dict[str, Any] = {"to_first_here": to_float32(here, base)}
        if _onnx(path):
            row["fused_otherwise_here"] = compare(here, ask(native(*worker, "--otherwise"), folder / "otherwise.npz"))
        for there in emulated:
            try:
                answers = ask(there.python(*worker), folder / "there.npz")
                row[there.processor.name] = compare(here, answers) | {"to_first": to_float32(answers, base)}
            except RuntimeError as error:
                row[there.processor.name] = {"error": str(error)}
            console.print(f"{name}, {there.processor.name}: {row[there.processor.name]}", soft_wrap=True)
        found[name] = row
    return found


def check_kernels(emulated: list[Machine], console: Console, folder: Path) -> dict[str, Any]:
    """Return the kernels' tests, and every operator beside this machine's: the largest difference, and whether bits are the same."""
    here = ask(native(arm_operators.__file__), folder / "here.npz")
    found: dict[str, Any] = {}
    for there in emulated:
        # How much memory a process holds is the emulator's business; what a test takes is not measured.
        options = ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", PLUGIN, "--noconftest", "-k", "not memory"]
        done = subprocess.run(there.python("-m", "pytest", *options, *TESTS), capture_output=True, text=True)
        last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-500:]
        if done.returncode:
            console.print(done.stdout[-4000:] + done.stderr[-2000:], markup=False)
        answers = ask(there.python(arm_operators.__file__), folder / "there.npz")
        operators = {}
        for op in sorted({name.split("/")[0] for name in here}):
            names = [n for n in here if n.startswith(f"{op}/")]
            operators[op] = {
                "cases": len(names),
                "same_bits": all(here[n].tobytes() == answers[n].tobytes() for n in names),
                "largest_difference": max(_difference(here[n], answers[n]) for n in names),
            }
            if op in arm_operators.SAME_BITS and not operators[op]["same_bits"]:
                console.print(f"[bold]{op} on {there.processor.name}: other bits than here[/bold]")
        found[there.processor.name] = {
            "tests": last.split(" in ")[0],
            "failed": done.returncode != 0,
            "operators": operators,
        }
        console.print(f"kernels' tests, {there.processor.name}: {last}")
    return found


def _onnx(path: Path) -> bool:
    """Whether ONNX Runtime's optimizer still has work when the artifact is opened."""
    return (path if path.is_file() else path / Manifest.read(path).artifact).suffix == ".onnx"


def artifacts_table(found: dict[str, Any], processors: list[str]) -> Table:
    """Difference and cosine by processor, and what that means beside float32."""
    heads = [f"{p}: largest difference, least cosine" for p in processors]
    table = Table("artifact", *heads, "here, fused otherwise", "cosine to the first here", "and on arm64")
    for name, row in found.items():
        cells = []
        for column in (*processors, "fused_otherwise_here"):
            cell = row.get(column, {"error": ""})
            cells.append(
                cell["error"] if "error" in cell else f"{cell['largest_difference']:.1e}, {cell['least_cosine']:.6f}"
            )
        there = next((row[p]["to_first"] for p in processors if row[p].get("to_first")), [])
        table.add_row(name, *cells, *(" / ".join(f"{c:.5f}" for c in pair) for pair in (row["to_first_here"], there)))
    return table


def kernels_table(found: dict[str, Any]) -> Table:
    """Operators by processor."""
    table = Table("operator", *found)
    for op in next(iter(found.values()))["operators"]:
        cells = [found[p]["operators"][op] for p in found]
        table.add_row(op, *("same bits" if c["same_bits"] else f"{c['largest_difference']:.1e}" for c in cells))
    table.add_row("tests", *(found[p]["tests"] for p in found))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", type=Path, nargs="*")
    parser.add_argument("--kernels", action="store_true", help="the kernels alone")
    parser.add_argument("--processor", nargs="+", choices=[p.name for p in PROCESSORS], default=[])
    arguments = parser.parse_args()
    console = Console(width=200)
    emulated = machines(arguments.processor)
    names = [m.processor.name for m in emulated]
    result = kept("arm")
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.kernels:
            given = {p.parent.name + "/" + p.name if p.is_file() else p.name: p for p in arguments.artifacts}
            found = check_artifacts(given or default_artifacts(), emulated, console, Path(folder))
            console.print(artifacts_table(found, names))
            result["artifacts"] = result.get("artifacts", {}) | found
        if not arguments.artifacts:
            result["kernels"] = check_kernels(emulated, console, Path(folder))
            console.print(kernels_table(result["kernels"]))
    console.print(save("arm", result | {"here": machine(), "there": versions()}))


if __name__ == "__main__":
    main()
