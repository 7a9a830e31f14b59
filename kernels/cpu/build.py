"""Build the library of ONNX Runtime operators beside this file: `python kernels/cpu/build.py`. Needs only g++ or clang++.

The package's own build runs it as well. Files `*.simd.cc` are compiled once for each instruction set, `*.dot.simd.cc` once
more for each that has int8 dot products, `*.bf16.simd.cc` for each that multiplies bfloat16, the rest once.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARY = "libheadway_cpu.so"

AVX2 = ["-mavx2", "-mfma", "-mf16c"]
SETS: dict[str, dict[str, list[str]]] = {
    "x86_64": {
        "baseline": [],
        "avx2": AVX2,
        "avx512": [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"],
    },
    "aarch64": {"baseline": []},  # NEON is part of the architecture
}
DOT_SETS: dict[str, dict[str, list[str]]] = {
    "x86_64": {
        "avx2_dot": [*SETS["x86_64"]["avx2"], "-mavxvnni"],
        "avx512_dot": [*SETS["x86_64"]["avx512"], "-mavx512vnni"],
    },
    "aarch64": {"baseline_dot": ["-march=armv8.2-a+dotprod"]},
}
BFLOAT16_SETS: dict[str, dict[str, list[str]]] = {
    "x86_64": {
        "avx512_bf16": [*SETS["x86_64"]["avx512"], "-mavx512bf16"],
        "avx512_amx": [*SETS["x86_64"]["avx512"], "-mavx512bf16", "-mamx-tile", "-mamx-bf16", "-mprfchw"],
    },
    "aarch64": {"baseline_bf16": ["-march=armv8.2-a+bf16"]},
}
MORE_SETS = {".dot.simd.cc": DOT_SETS, ".bf16.simd.cc": BFLOAT16_SETS}
COMMON = [
    "-std=c++17",
    "-fPIC",
    "-fvisibility=hidden",
    "-fvisibility-inlines-hidden",
    "-ffp-contract=fast",
    "-fno-math-errno",
]
COMMON += [
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-Wno-ignored-attributes",
    "-Wno-uninitialized",
    "-Wno-maybe-uninitialized",
]
SPEED = ["-O3"]
SANITIZERS = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


def compiler() -> str | None:
    """Return the C++ compiler: `$CXX`, g++ or clang++; None where there is none."""
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if name and shutil.which(name.split()[0]):
            return name
    return None


def build(out: Path, *, machine: str | None = None, flags: Sequence[str] = SPEED) -> Path:
    """Compile and link the library to `out`.

    Raises CalledProcessError where the compiler fails, with its messages on standard error, and RuntimeError where there is no
    compiler, or no list of instruction sets for `machine` (default: this one).
    """
    command = compiler()
    processor = machine or platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")
    sets = SETS.get(processor)
    if command is None:
        raise RuntimeError("no C++ compiler found (g++ or clang++, or set CXX)")
    if sets is None:
        raise RuntimeError(f"no kernels for processors of type {processor}")
    base = [*command.split(), *COMMON, *flags]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs, objects = [], []

        def compile_one(source: Path, name: str, extra: Sequence[str]) -> None:
            objects.append(target := str(Path(folder) / f"{name}.o"))
            jobs.append(pool.submit(subprocess.run, [*base, *extra, "-c", str(source), "-o", target], check=True))

        for source in sorted(HERE.glob("*.cc")):
            if source.name.endswith(".simd.cc"):
                more = next((more[processor] for end, more in MORE_SETS.items() if source.name.endswith(end)), {})
                for name, extra in (sets | more).items():
                    compile_one(source, f"{source.stem}.{name}", [*extra, f"-DHEADWAY_ISA={name}"])
            else:
                compile_one(source, source.stem, [])
        for job in jobs:
            job.result()
        linked = str(Path(folder) / LIBRARY)
        subprocess.run([*base, "-shared", *objects, "-o", linked], check=True)
        staged = out.with_name(f".{out.name}.{os.getpid()}")  # a library in use is replaced, never overwritten
        shutil.copyfile(linked, staged)
        staged.replace(out)
    return out


if __name__ == "__main__":
    try:
        print(build(HERE / LIBRARY))
    except RuntimeError as error:
        print(f"kernels not built: {error}", file=sys.stderr)
