"""all-MiniLM-L6-v2 on a GPU: PyTorch, torch.compile, ONNX Runtime, TensorRT and TensorRT-RTX, in paired rounds.

    python benchmarks/gpu/engines.py prepare                 # anywhere: exports what the GPU machine needs into build/gpu
    python benchmarks/gpu/engines.py run --wheels FOLDER     # there, without a network: installs, builds, times, prints

`run` needs torch, transformers and onnxruntime; what else it finds in FOLDER (wheels of tensorrt or tensorrt-rtx, cuda-bindings,
onnxruntime-gpu) it installs without their dependencies. Engines are built once and kept. A case that the result file holds for
this code and device is not measured again, and none is begun after `--seconds`: an interrupted run, or one in slices of ten
minutes, goes on where it stopped (exit code 5 while cases are left). A contestant that cannot run here is listed with
the reason, one whose answers are not the source's is refused, and int8 that is no faster than float16 is said to be.
"""

import argparse
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "gpu"
DTYPES = ("fp32", "fp16", "bf16", "int8")
OWN = "fp16-kernels"
"""float16 with Headway's own attention in place of TensorRT's."""

CASES = ((1, 128), (8, 128), (32, 128), (32, None))
"""Texts and tokens; None: lengths as production has them."""

NOT_AVAILABLE, UNFINISHED = 4, 5
LEAST_COSINE = 0.97

Feeds = Mapping[str, np.ndarray]
Run = Callable[[Feeds], np.ndarray]


def find_headway() -> None:
    """Make the checkout importable where it is not installed: a mirror of its import names, by links."""
    if importlib.util.find_spec("headway") is not None:
        return
    mirror = BUILD / "packages" / "headway"
    mirror.mkdir(parents=True, exist_ok=True)
    links = {entry.name: entry for entry in (ROOT / "headway").iterdir()}
    links |= {room: ROOT / room for room in ("exporter", "kernels", "calibration")}
    for name, place in links.items():
        if not (mirror / name).exists():
            (mirror / name).symlink_to(place)
    sys.path.insert(0, str(mirror.parent))


def prepare() -> None:
    """Typed graphs and plans of each dtype; int8 is the product's own quantization of every block."""
    sys.path.insert(0, str(ROOT))
    from headway.calibration.corpus import builtin_lines
    from headway.exporter.export import export
    from headway.exporter.recipe.recipe import make_recipe

    from benchmarks.models import minilm

    source = minilm(ROOT / ".cache" / "models")
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "lines.txt").write_text("\n".join(builtin_lines()), encoding="utf-8")
    for dtype in (*DTYPES, OWN):
        values: dict[str, Any] = {"source": str(source), "target": "tensorrt", "engine": {"plan": True}}
        values["dtype"] = "fp16" if dtype in ("int8", OWN) else dtype
        values["kernels"] = "custom" if dtype == OWN else "auto"
        if dtype == "int8":
            values |= {"passes": [{"kind": "quantize"}], "data": BUILD / "lines.txt", "max_drop": 100.0}
        recipe = make_recipe("prepare", **values)
        made = export(recipe, BUILD / dtype, force=True)
        print(f"{dtype}: parity {made.parity.outputs[-1].cosine:.6f}")
    target = BUILD / "source"
    if not target.exists():
        shutil.copytree(source, target)


def install(folder: Path) -> list[str]:
    """Installs the wheels carried in `folder`, without dependencies or network; returns their names."""
    wheels = sorted(str(p) for p in folder.glob("*.whl"))
    if wheels:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", *wheels]
        subprocess.run(command, check=True)
    return [Path(w).name for w in wheels]


def torch_run(device: str, *, compiled: bool) -> Run:
    """Return the source in float16 (on a GPU), mean of real tokens, length 1."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(BUILD / "source", dtype=torch.float16 if device == "cuda" else torch.float32)
    model = model.eval().to(device)
    if compiled:
        model = torch.compile(model, dynamic=None)

    def run(feeds: Feeds) -> np.ndarray:
        moved = {k: torch.from_numpy(v).to(device) for k, v in feeds.items()}
        with torch.inference_mode():
            hidden = model(**moved).last_hidden_state.float()
            real = moved["attention_mask"][..., None]
            pooled = (hidden * real).sum(1) / real.sum(1)
            return torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()

    return run


def ort_run(dtype: str, provider: tuple[str, Mapping[str, Any]]) -> Run:
    from headway.runners.ort import OrtRunner

    runner = OrtRunner(BUILD / dtype / "model.onnx", {"regroup": True}, None, (provider,))
    return lambda feeds: runner.run(feeds)["sentence_embedding"]


def engine_run(library: str, dtype: str) -> Run:
    """Built on this machine, unless an engine of this code and graph is there."""
    from headway.engine.build import find_library
    from headway.engine.rebuild import rebuild
    from headway.engine.record import ENGINE_FILE, PLAN_FILE
    from headway.errors import TargetError
    from headway.runners.tensorrt import open_engine

    module, bundle, mark = library.replace("-", "_"), BUILD / f"{library}-{dtype}", BUILD / f"{library}-{dtype}.code"
    find_library(module)
    if not mark.is_file() or mark.read_text(encoding="utf-8") != code():
        shutil.rmtree(bundle, ignore_errors=True)
        shutil.copytree(BUILD / dtype, bundle)
        plan = json.loads((bundle / PLAN_FILE).read_text(encoding="utf-8"))
        plan["library"] = module
        (bundle / PLAN_FILE).write_text(json.dumps(plan), encoding="utf-8")
        mark.write_text(code(), encoding="utf-8")  # last: a copy that was cut short is made again
    try:
        runner = open_engine(bundle / ENGINE_FILE, {"regroup": True})
    except TargetError:
        rebuild(bundle)
        runner = open_engine(bundle / ENGINE_FILE, {"regroup": True})
    return lambda feeds: runner.run(feeds)["sentence_embedding"]


def contestants(device: str) -> dict[str, Callable[[], Run]]:
    """How each is opened, by name."""
    found: dict[str, Callable[[], Run]] = {
        "PyTorch": lambda: torch_run(device, compiled=False),
        "torch.compile": lambda: torch_run(device, compiled=True),
    }
    plain = {"use_tf32": "0"}  # as in the product: float32 is float32 in every runtime
    provider = ("CUDAExecutionProvider", plain) if device == "cuda" else ("CPUExecutionProvider", {})
    for dtype in DTYPES:
        found[f"ONNX Runtime {dtype}"] = lambda d=dtype: ort_run(d, provider)
        for library in ("tensorrt", "tensorrt-rtx"):
            found[f"{library} {dtype}"] = lambda lib=library, d=dtype: engine_run(lib, d)
    found["tensorrt fp16, Headway's attention"] = lambda: engine_run("tensorrt", OWN)
    return found


def feeds_for(batch: int, length: int | None) -> dict[str, np.ndarray]:
    from headway.calibration.corpus import mixed_lengths

    lengths = np.full(batch, length) if length else mixed_lengths(batch, 128)
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    ids = np.random.default_rng(0).integers(1000, 20000, mask.shape) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def open_all(device: str) -> tuple[dict[str, Run], dict[str, str]]:
    """Contestants that run here and answer as the first does, and why the others do not."""
    opened: dict[str, Run] = {}
    refused: dict[str, str] = {}
    feeds = feeds_for(4, 24)
    wanted: np.ndarray | None = None
    for name, make in contestants(device).items():
        try:
            run = make()
            got = run(feeds).astype(np.float64)
        except Exception as error:  # a library that is missing or broken is a result, whatever it raises
            refused[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
            continue
        wanted = got if wanted is None else wanted
        cosine = float(((got * wanted).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(wanted, axis=1)).min())
        if not cosine >= LEAST_COSINE:
            refused[name] = f"answers differently: cosine {cosine:.4f}"
            continue
        opened[name] = run
    return opened, refused


def measure_case(opened: Mapping[str, Run], batch: int, length: int | None, rounds: int) -> dict[str, Any]:
    """Median milliseconds of each, and how many times as long as PyTorch's with its bootstrap interval."""
    from headway.exporter.bench.measure import ratio_interval

    feeds = feeds_for(batch, length)
    for run in opened.values():
        for _ in range(3):  # compiles, captures
            run(feeds)
    names = list(opened)
    times = {name: np.zeros(rounds) for name in names}
    for turn in range(rounds):
        for i in range(len(names)):
            name = names[(i + turn) % len(names)]
            start = time.perf_counter_ns()
            opened[name](feeds)
            times[name][turn] = (time.perf_counter_ns() - start) / 1e6
    rows = {
        name: {
            "ms": float(np.median(t)),
            "ratio": ratio_interval(times[names[0]], t) if name != names[0] else (1.0, 1.0, 1.0),
        }
        for name, t in times.items()
    }
    return {"label": f"{batch}x{length or 'mixed'}", "tokens": int(feeds["attention_mask"].sum()), "contestants": rows}


def slow_int8(cases: Mapping[str, Any]) -> list[str]:
    """int8 that does not beat float16 in the same runtime, case by case."""
    found = []
    for label, case in cases.items():
        rows = case["contestants"]
        for name, row in rows.items():
            half = rows.get(name.replace("int8", "fp16"))
            if "int8" in name and half is not None and row["ms"] >= half["ms"]:
                found.append(
                    f"{label}: {name} takes {row['ms']:.2f} ms, float16 {half['ms']:.2f}: int8 buys nothing here"
                )
    return found


def table(result: Mapping[str, Any]) -> str:
    """Markdown: milliseconds, and how many times as long as PyTorch."""
    labels = list(result["cases"])
    names = list(dict.fromkeys(n for c in result["cases"].values() for n in c["contestants"]))
    lines = [f"| {result['device']} | " + " | ".join(labels) + " |", "|---" * (len(labels) + 1) + "|"]
    for name in names:
        cells = []
        for label in labels:
            row = result["cases"][label]["contestants"].get(name)
            cells.append(f"{row['ms']:.2f} ({row['ratio'][0]:.2f})" if row else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [f"\n{name}: {why}" for name, why in result["refused"].items()]
    return "\n".join([*lines, *(f"\n{line}" for line in slow_int8(result["cases"]))])


def code() -> str:
    """Return what the results depend on: this file, what builds and runs engines, and the graphs."""
    digest = hashlib.sha256()
    graphs = sorted(p for d in (*DTYPES, OWN) for p in (BUILD / d).glob("model.onnx*"))
    product = ("engine/build.py", "engine/rebuild.py", "runners/ort.py", "runners/tensorrt.py")
    kernels = [ROOT / "kernels" / "tensorrt_plugin.py", *sorted((ROOT / "kernels" / "triton").glob("*.py"))]
    for path in [Path(__file__), *(ROOT / "headway" / name for name in product), *kernels, *graphs]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def run(device: str, name: str, folder: Path, *, seconds: float, rounds: int, again: bool) -> int:
    """Measures the cases that are left, saving each; prints the table. Returns the exit code."""
    path = folder / f"gpu-engines-{name.replace(' ', '-').lower()}.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() and not again else {}
    begun = time.monotonic()
    cases: dict[str, Any] = old["cases"] if old.get("code") == code() else {}
    left = [c for c in CASES if f"{c[0]}x{c[1] or 'mixed'}" not in cases]
    opened, refused = open_all(device) if left else ({}, old.get("refused", {}))
    result = {"device": name, "code": code(), "cases": cases, "refused": refused}
    for batch, length in list(left):
        if time.monotonic() - begun > seconds:
            break
        case = measure_case(opened, batch, length, rounds)
        cases[case["label"]] = case
        left.remove((batch, length))
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if cases:
        print(table(result))
        path.with_suffix(".md").write_text(table(result) + "\n", encoding="utf-8")
    return UNFINISHED if left else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["prepare", "run"])
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install first")
    parser.add_argument("--seconds", type=float, default=420.0, help="begin no case after so long")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--again", action="store_true", help="measure what is measured already")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    find_headway()
    if arguments.step == "prepare":
        prepare()
        return 0
    if arguments.wheels is not None:
        print("installed:", ", ".join(install(arguments.wheels)) or "nothing, the folder holds no wheels")
    if importlib.util.find_spec("torch") is None:
        print(
            "torch is not installed: run this on a GPU machine that has torch, transformers and onnxruntime",
            file=sys.stderr,
        )
        return NOT_AVAILABLE
    import torch

    if not torch.cuda.is_available():
        print("there is no GPU here, or torch does not see it: run this on a machine with one", file=sys.stderr)
        return NOT_AVAILABLE
    if not (BUILD / "source").is_dir():
        print(
            f"{BUILD}: nothing is prepared; run `prepare` where Headway's export extra is installed, and carry it here",
            file=sys.stderr,
        )
        return NOT_AVAILABLE
    name = torch.cuda.get_device_name()
    return run("cuda", name, arguments.out, seconds=arguments.seconds, rounds=arguments.rounds, again=arguments.again)


if __name__ == "__main__":
    sys.exit(main())
