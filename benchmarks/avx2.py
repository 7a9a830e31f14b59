"""Our int8 and ONNX Runtime's on a processor without byte dot products: AVX2 alone, where ONNX Runtime's 16-bit sums saturate.

    python -m benchmarks.avx2 [--rounds 15]           the comparison, one thread
    python -m benchmarks.avx2 -- python program.py    any command, AVX-512 and VNNI hidden from ONNX Runtime and our kernels

A newer processor runs its AVX2 code when it believes it has no more: libraries are loaded as copies whose `cpuid` instructions
trap, and the trap answers without AVX-512, AVX-VNNI and AMX (`hide_cpuid.c`). All else runs at full speed. So this shows the
numbers an old processor computes, and how AVX2 code paths compare with each other on this one; it does not show an old
processor's times. Before anything is measured, ONNX Runtime's integer product must saturate in every interpreter that takes
part, must not without the hiding, and our kernels must name AVX2. Needs gcc, objdump and Linux on x86-64.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

from headway.calibration.corpus import builtin_lines
from headway.exporter.cli.tables import bench_table

from .compare import run
from .data import movies
from .int8 import CALIBRATION, ENGLISH, OUT, bundles, fidelity
from .models import minilm
from .peers import environments
from .peers.artifacts import Peer, optimum, optimum_int8, ort_dynamic
from .results import save

Found = dict[str, int | float | str | bool]

SOURCE = Path(__file__).with_name("hide_cpuid.c")
WORK = Path("build/avx2")
KERNELS = Path(__file__).parents[1] / "kernels" / "cpu" / "libheadway_cpu.so"
CPUID, TRAP = b"\x0f\xa2", b"\x06\xa2"  # the second is no instruction in 64-bit mode
NATIVE, HIDDEN = "AVX-512 and VNNI", "AVX2 alone"

PROBE = """
import ctypes, json, sys, time
import numpy as np, onnxruntime
folder, kernels = sys.argv[1:]
def session(name):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(f"{folder}/{name}.onnx", options, providers=["CPUExecutionProvider"])
found = {"sum": int(session("bytes").run(None, {"a": np.full((4, 64), 255, np.uint8)})[0].flat[0])}
product, a, times = session("float"), np.ones((256, 1024), np.float32), []
for _ in range(30):
    start = time.perf_counter()
    product.run(None, {"a": a})
    times.append(1e3 * (time.perf_counter() - start))
found["float32_ms"] = min(times)
library = ctypes.CDLL(kernels)
library.headway_isa.restype = ctypes.c_char_p
found["kernels"] = library.headway_isa(None).decode()
found["kernels_dot_product"] = bool(library.headway_dot_product(-1))
print(json.dumps(found))
"""
"""What a fresh interpreter computes: 64 times 255 x 127, a float32 product's time, and the instructions our kernels use."""


def cpuid_offsets(library: Path) -> list[int]:
    """Where in the file its `cpuid` instructions are, kept by content; RuntimeError where it has none."""
    stored = WORK / f"{hashlib.sha256(library.read_bytes()).hexdigest()}.json"
    if not stored.is_file():
        heads = subprocess.run(["objdump", "-hw", library], check=True, capture_output=True, text=True).stdout
        text = re.search(r"^\s*\d+ \.text\s+\S+\s+(\S+)\s+\S+\s+(\S+)", heads, re.MULTILINE)
        with subprocess.Popen(["objdump", "-dw", "-j", ".text", library], stdout=subprocess.PIPE) as objdump:
            found = subprocess.run(["grep", "-w", "cpuid"], stdin=objdump.stdout, capture_output=True, text=True).stdout
        if text is None or not found:
            raise RuntimeError(f"{library}: objdump finds no cpuid instruction")
        shift = int(text[2], 16) - int(text[1], 16)
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_text(json.dumps([int(line.split(":")[0], 16) + shift for line in found.splitlines()]))
    return json.loads(stored.read_text())


def patched(library: Path, folder: Path) -> Path:
    """Return a copy of a shared library in `folder`, among its old neighbors, whose `cpuid` instructions trap."""
    code = bytearray(library.read_bytes())
    for offset in cpuid_offsets(library):
        if code[offset : offset + 2] != CPUID:
            raise RuntimeError(f"{library}: no cpuid instruction at file offset {offset:#x}")
        code[offset : offset + 2] = TRAP
    home = Path(tempfile.mkdtemp(dir=folder))
    for neighbor in library.parent.iterdir():  # ONNX Runtime looks for its providers beside itself
        (home / neighbor.name).symlink_to(neighbor)
    copy = home / library.name
    copy.unlink()
    copy.write_bytes(code)
    return copy


def runtime_of(python: Path) -> Path:
    """ONNX Runtime's extension module in an interpreter's environment, found without loading it."""
    code = "import importlib.util as u; print(u.find_spec('onnxruntime').submodule_search_locations[0])"
    home = Path(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip())
    (module,) = (home / "capi").glob("onnxruntime_pybind11_state*.so")
    return module.resolve()


@contextlib.contextmanager
def hidden(pythons: Iterable[Path]) -> Iterator[None]:
    """Make processes started meanwhile find AVX2 alone, in these interpreters' ONNX Runtime and in our kernels."""
    with tempfile.TemporaryDirectory() as name:
        shim, copies = Path(name) / "hide_cpuid.so", Path(name) / "copies"
        copies.mkdir()
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", SOURCE, "-o", shim, "-ldl"], check=True)
        libraries = {*map(runtime_of, pythons), KERNELS.resolve()}
        pairs = ":".join(f"{library}={patched(library, copies)}" for library in sorted(libraries))
        before = dict(os.environ)
        os.environ |= {"LD_PRELOAD": str(shim), "HEADWAY_COPIES": pairs}
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def probe(python: Path) -> Found:
    """Return what `PROBE` finds in a fresh process of this interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        info = helper.make_tensor_value_info
        for name, op, kind, out, weight in (
            ("bytes", "MatMulInteger", TensorProto.UINT8, TensorProto.INT32, np.full((64, 32), 127, np.int8)),
            ("float", "MatMul", TensorProto.FLOAT, TensorProto.FLOAT, np.ones((1024, 1024), np.float32)),
        ):
            node = helper.make_node(op, ["a", "b"], ["y"])
            inputs, outputs = [info("a", kind, ["m", weight.shape[0]])], [info("y", out, ["m", weight.shape[1]])]
            graph = helper.make_graph([node], name, inputs, outputs, [onnx.numpy_helper.from_array(weight, "b")])
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
            onnx.save(model, f"{folder}/{name}.onnx")
        answer = subprocess.run([python, "-c", PROBE, folder, KERNELS], check=True, capture_output=True, text=True)
    return json.loads(answer.stdout)


def prove(pythons: Mapping[str, Path]) -> dict[str, dict[str, Found]]:
    """Probes of every interpreter, natively and hidden; RuntimeError where the hiding changes nothing or too little."""
    native = {name: probe(python) for name, python in pythons.items()}
    with hidden(pythons.values()):
        found = {name: probe(python) for name, python in pythons.items()}
    for name in pythons:
        if native[name]["sum"] != 64 * 255 * 127:
            raise RuntimeError(f"{name}: ONNX Runtime's sums are wrong already without hiding: this shows nothing here")
        if found[name]["sum"] != 32 * 32767:  # pairs of products, saturated to 16 bits
            raise RuntimeError(f"{name}: {found[name]['sum']} is not the saturated sum: AVX2 code did not run")
        if found[name]["kernels"] != "avx2" or found[name]["kernels_dot_product"]:
            raise RuntimeError(f"{name}: our kernels still see more than AVX2")
    return {NATIVE: native, HIDDEN: found}


def cautious(model: Path, name: str, arguments: str) -> Path:
    """`quantize_dynamic` with what its documentation advises where sums saturate."""
    out = WORK / name / "model.onnx"
    if not out.is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        code = (
            "import sys; from onnxruntime.quantization import QuantType, quantize_dynamic; "
            f"quantize_dynamic(sys.argv[1], sys.argv[2], {arguments})"
        )
        plain = optimum(model, None)
        subprocess.run([environments.python_of("optimum"), "-c", code, plain, out], check=True, capture_output=True)
    return out


def contestants(model: Path, texts: list[str]) -> list[Peer]:
    """Ours, int8 by token first, then ONNX Runtime's: default, by channel, and both with what avoids saturation."""
    kinds = {"int8": "custom", "int8 stock": "stock", "float32": "float32"}
    made = {kind: OUT / f"minilm-{folder}" for kind, folder in kinds.items()}
    if not all((path / "headway.json").is_file() for path in made.values()):
        made = bundles(model, texts, "minilm")
    ours, theirs = Path(sys.executable), environments.python_of("optimum")
    signed = "weight_type=QuantType.QInt8, per_channel=True, reduce_range=True"
    return [
        *(Peer(f"Headway {kind}", "headway", ours, made[kind]) for kind in kinds),
        Peer("ONNX Runtime dynamic", "onnx", theirs, ort_dynamic(model, per_channel=False)),
        Peer("ONNX Runtime dynamic, by channel", "onnx", theirs, ort_dynamic(model, per_channel=True)),
        Peer("ONNX Runtime dynamic, by channel, 7 bits", "onnx", theirs, cautious(model, "seven-bits", signed)),
        Peer("ONNX Runtime dynamic, u8 x u8", "onnx", theirs, cautious(model, "u8u8", "weight_type=QuantType.QUInt8")),
    ]


def only_fidelity(peers: list[Peer], model: Path, texts: list[str]) -> list[Peer]:
    """Measure static int8 that saturates: our stock graph without the session option our runner sets for it, and Optimum's."""
    stock = next(p.artifact for p in peers if p.name == "Headway int8 stock") / "model.onnx"
    python = environments.python_of("optimum")
    return [
        Peer("Headway int8 stock, x64quantprecision unset", "onnx", python, stock),
        Peer("Optimum static", "onnx", python, optimum_int8(model, texts)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "command", nargs="*", help="run this instead; its first word is an interpreter with onnxruntime"
    )
    arguments = parser.parse_args()
    if arguments.command:
        program = shutil.which(arguments.command[0])
        if program is None:
            parser.error(f"no program {arguments.command[0]}")
        with hidden([Path(program)]):
            raise SystemExit(subprocess.run(arguments.command).returncode)
    console = Console(width=250)
    data = movies()
    texts = data["train"].texts[:CALIBRATION]
    peers = contestants(minilm(), texts)
    pythons = {"Headway": Path(sys.executable), "ONNX Runtime": environments.python_of("optimum")}
    proof = prove(pythons)
    console.print(proof)
    sets = {"lines in 24 languages": builtin_lines(), "English sentences": data["test"].texts[:ENGLISH]}
    integer = [p for p in peers if p.name != "Headway float32"] + only_fidelity(peers, minilm(), texts)
    base = next(p.artifact for p in peers if p.name == "Headway float32")
    caveat = (
        "AVX2 code on the processor named under speed, which has more: fidelity is an AVX2 processor's, times are not"
    )
    result = {"caveat": caveat, "proof": proof, "cosine": {}, "speed": {}}
    with hidden(pythons.values()):
        result["cosine"][HIDDEN] = fidelity(base, integer, sets)
        _show(console, HIDDEN, result["cosine"][HIDDEN])
        save("int8-avx2", result)
        # No answer is refused: how wrong saturated ones are is what the cosines above say.
        timed = run(peers[0].artifact, peers[1:], 1, arguments.rounds, least_cosine=-1)
    console.print(bench_table(timed))
    result["speed"] = timed.to_json()
    save("int8-avx2", result)
    result["cosine"][NATIVE] = fidelity(base, integer, sets)
    _show(console, NATIVE, result["cosine"][NATIVE])
    save("int8-avx2", result)


def _show(console: Console, processor: str, found: dict[str, dict[str, tuple[float, float]]]) -> None:
    sets = next(iter(found.values()))
    table = Table(processor, *(f"cosine to float32, {name}: mean / least" for name in sets))
    for name, row in found.items():
        table.add_row(name, *(f"{mean:.5f} / {least:.5f}" for mean, least in row.values()))
    console.print(table)


if __name__ == "__main__":
    main()
