"""The code written into packages, by what can be had of its languages: Kotlin compiled, JavaScript run.

    python -m benchmarks.snippets

Kotlin: by its compiler (npm's `kotlin-compiler`, on Java) against declarations of the runtimes' classes (`peers/kotlin`), so that names
and types inside the code fit; that the declarations are the runtimes' own was read in their documentation, not compiled. JavaScript: the
package is opened by onnxruntime-web in Node, and its answer compared with Python's. Swift has no compiler here: it is parsed by the tests.
"""

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from headway import Bundle
from headway.exporter.export import export
from headway.exporter.package.packager import package
from headway.exporter.package.snippets.writers import snippet
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.recipe.targets import targets_for
from headway.manifest import Manifest

from .models import minilm
from .results import save

CACHE = Path(".cache/npm")
PACKAGES = ("kotlin-compiler@2.4.20", "onnxruntime-web@1.30.0")
STUBS = Path(__file__).parent / "peers" / "kotlin"
OUT = Path("build/snippets")

_RUN = """import { readFileSync, writeFileSync } from "node:fs";
import { Model } from "./package/index.js";
const model = await Model.open(new Uint8Array(readFileSync("package/model.ort")));
const answer = await model.run({ inputIds: JSON.parse(process.argv[2]) });
const plain = Object.fromEntries(Object.entries(answer).map(([k, v]) => [k, [...v.values]]));
writeFileSync("answer.json", JSON.stringify(plain));
process.exit(0);
"""


def tools() -> Path:
    """Return the folder of node modules, installed once."""
    if not (CACHE / "node_modules" / "onnxruntime-web").is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        (CACHE / "package.json").write_text('{"type": "module"}')
        subprocess.run(["npm", "install", "--silent", "--ignore-scripts", *PACKAGES], cwd=CACHE, check=True)
    return CACHE


def compile_kotlin(manifest: Manifest) -> dict[str, str]:
    """Target → "compiles", or what the compiler says."""
    compiler = (tools() / "node_modules" / "kotlin-compiler" / "lib").resolve()
    found = {}
    for target in targets_for("android"):
        with tempfile.TemporaryDirectory() as folder:
            code = Path(folder) / "Model.kt"
            dtype = "int32" if target == "litert" else "int64"
            inputs = [replace(t, dtype=dtype) for t in manifest.inputs]
            code.write_text(snippet(replace(manifest, target=target, inputs=inputs), "android").text)
            jars = os.pathsep.join(map(str, sorted(compiler.glob("*.jar"))))
            main = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"
            options = ["-no-stdlib", "-classpath", str(compiler / "kotlin-stdlib.jar"), "-d", folder]
            command = ["java", "-cp", jars, main, *options, str(code), *map(str, sorted(STUBS.glob("*.kt")))]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            errors = [line for line in done.stderr.splitlines() if "error:" in line]
            found[target] = "compiles" if done.returncode == 0 else "; ".join(errors) or done.stderr[-500:]
    return found


def run_javascript(bundle: Path) -> dict[str, float]:
    """Largest difference of each output between the package in Node and the bundle in Python, for one text."""
    folder = tools()
    shutil.rmtree(folder / "package", ignore_errors=True)
    package(bundle, "web", folder / "package")
    opened = Bundle.open(bundle, threads=1)
    text = "a text that a page would read"
    ids = opened.encoder.encode([text])[0].ids
    (folder / "run.mjs").write_text(_RUN)
    subprocess.run(["node", "run.mjs", json.dumps(ids)], cwd=folder, capture_output=True, check=True)
    given = json.loads((folder / "answer.json").read_text())
    return {k: float(np.abs(np.array(given[k]) - v.reshape(-1)).max()) for k, v in opened([text]).items()}


def main() -> None:
    done = export(make_recipe("benchmark", source=str(minilm()), target="ort-mobile"), OUT, force=True)
    labeled = replace(done.manifest, labels={"0": 'costs $10 or "more"', "1": "free"})
    result = {"kotlin": compile_kotlin(labeled), "javascript": run_javascript(done.path)}
    print(json.dumps(result, indent=2))
    save("snippets", result)


if __name__ == "__main__":
    main()
