"""One thread of WebAssembly: our bundle beside the same model exported the way transformers.js's models are.

    make tests/web/node_modules/.package-lock.json && python -m benchmarks.web [--rounds 15]

all-MiniLM-L6-v2, float32 and int8, all models in one Node process, in turn, there and back. Ratios are medians of paired rounds
with a 95 % bootstrap interval. Fidelity: cosine of the mean of the tokens' states to the float32 model's, in WebAssembly too.
"""

import argparse
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from headway import Bundle
from headway.calibration.corpus import builtin_lines
from headway.exporter.bench.measure import machine, ratio_interval
from headway.exporter.export import export
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.targets.web.wasm import versions

from .data import movies
from .models import minilm
from .peers import artifacts
from .results import save

OUT = Path("build/web")
SHAPES = [(1, 16), (1, 32), (1, 128), (1, 512)]
CALIBRATION = 512
FLOAT, INT8 = "Headway float32", "Headway int8"


def bundles(model: Path) -> dict[str, Path]:
    """Our bundles for the web."""
    OUT.mkdir(parents=True, exist_ok=True)
    data = OUT / "text.txt"
    data.write_text("\n".join(movies()["train"].texts[:CALIBRATION]), encoding="utf-8")
    passes: dict[str, list[dict[str, Any]]] = {
        FLOAT: [],
        INT8: [{"kind": "quantize"}],
        "Headway int4 weights": [{"kind": "quantize", "weights": "int4", "block": 32}],
        "Headway float16 weights": [{"kind": "float16"}],
    }
    made = {}
    for name, steps in passes.items():
        recipe = make_recipe("benchmark", source=str(model), target="web", data=data, passes=steps, max_drop=100)
        out = OUT / name.removeprefix("Headway ").replace(" ", "-")
        made[name] = export(recipe, out, force=True).path
    return made


def peers(model: Path) -> dict[str, Path]:
    """Return what is on hubs for transformers.js: Optimum's plain export, and ONNX Runtime's quantizations of it."""
    return {
        "plain export": artifacts.optimum(model, None),
        "plain, dynamic int8": artifacts.ort_dynamic(model, per_channel=False),
        "plain, dynamic int8 by channel": artifacts.ort_dynamic(model, per_channel=True),
        "plain, static int8 (QDQ)": artifacts.optimum_int8(model, movies()["train"].texts[:CALIBRATION]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    os.environ["NODE_PATH"] = str(Path("tests/web/node_modules").absolute())
    if isinstance(reason := versions(), str):
        raise SystemExit(reason)
    model = minilm()
    made = bundles(model)
    opened = {name: Bundle.open(path) for name, path in made.items()}
    encoder = opened[FLOAT].encoder
    files: dict[str, tuple[str, Any]] = {
        name: (str(path / opened[name].manifest.artifact), opened[name].manifest.session_options)
        for name, path in made.items()
    }
    files |= {name: (str(path), None) for name, path in peers(model).items()}
    texts = [e.ids for e in encoder.encode(builtin_lines(), 256)]
    asked = json.dumps({"models": files, "shapes": SHAPES, "rounds": rounds, "texts": texts})
    command = ["node", str(Path(__file__).parent / "peers" / "web.mjs")]
    found = json.loads(subprocess.run(command, input=asked, capture_output=True, text=True, check=True).stdout)
    wanted = np.array(found["vectors"]["plain export"])
    rows = {}
    for name, (file, _) in files.items():
        vectors = np.array(found["vectors"][name])
        cosines = (vectors * wanted).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(wanted, axis=1)
        base = INT8 if name == INT8 or name.startswith("plain, ") else FLOAT
        rows[name] = {
            "mb": Path(file).stat().st_size / 1e6,
            "load_ms": found["load"][name],
            "cosine": [float(cosines.mean()), float(cosines.min())],
            "ms": {shape: float(np.median(t[name])) for shape, t in found["times"].items()},
            "times_as_long_as": base,
            "ratio": {s: ratio_interval(np.array(t[base]), np.array(t[name])) for s, t in found["times"].items()},
        }
    table = Table("in WebAssembly, 1 thread", "MB", "cosine: mean / least", *(f"{b}x{n}" for b, n in SHAPES))
    for name, row in rows.items():
        cells = [
            f"{row['ms'][s]:.1f} ms"
            if name == row["times_as_long_as"]
            else "{:.2f} ({:.2f} to {:.2f})".format(*row["ratio"][s])
            for s in row["ms"]
        ]
        table.add_row(name, f"{row['mb']:.1f}", "{:.4f} / {:.4f}".format(*row["cosine"]), *cells)
    Console(width=200).print(table)
    ran = {k: found[k] for k in ("onnxruntime-web", "node")}
    save("web", {"machine": machine(), **ran, "rounds": rounds, "models": rows, "times": found["times"]})


if __name__ == "__main__":
    main()
