"""Browsers: the graph for onnxruntime-web, in the folders that transformers.js reads, and a page that runs it.

The WebAssembly build has the operators of the CPU build, but not Headway's own. It reads no second file unless told to, so the weights
are in the graph. Where Node and onnxruntime-web are installed, an export is checked in them.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ....errors import TargetError
from ....json_file import read_json
from ....manifest import Manifest
from ....runners.base import Runner
from ....runners.ort import OrtRunner
from ...graph.anatomy import Anatomy
from ...recipe.passes import HalfSpec, QuantizeSpec
from ...recipe.recipe import Recipe
from ..base import TargetSpec
from ..ort.int8 import CONTRIB
from ..ort.target import SPEC, lower, session_options
from .page_tokenizer import compare_in_javascript
from .wasm import WasmRunner, versions

FOLDER = "onnx"
SUFFIXES = {"fp32": "", "q8": "_quantized", "q4": "_q4", "fp16": "_fp16"}
"""File names by which transformers.js tells dtypes apart."""

LARGEST = 2_000_000_000
"""A protobuf message holds 2 GiB; a browser's 32-bit memory holds the file and the session beside it."""

PAGE_FILES = ("bundle.mjs", "page.mjs", "tokenizer.mjs", "unicode.json")
ROOT_FILES = ("index.html", "package.json", "package-lock.json")
_PAGE = Path(__file__).parent / "page"


@dataclass(frozen=True)
class WebTarget:
    """Target `web`. `kind`: one of `SUFFIXES`."""

    kind: str = "fp32"
    spec: TargetSpec = SPEC
    dtype: str = "float32"

    @property
    def artifact(self) -> str:
        return f"{FOLDER}/model{SUFFIXES[self.kind]}.onnx"

    def available(self) -> str | None:
        return None

    def lower(self, model: ir.Model, anatomy: Anatomy, text: object = None) -> dict[str, int]:
        fusions = lower(
            model, anatomy, nibbles=False
        ).as_dict()  # with nibbles a run takes 1.1 to 2.7 times as long (benchmarks/web.py)
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            if node.domain not in ("", CONTRIB):
                raise TargetError(
                    f"node {node.name!r}: {node.domain}.{node.op_type} is not in onnxruntime-web: leave `kernels` (--kernels) out"
                )
        return fusions

    def build(self, model: ir.Model, directory: Path, text: object = None) -> None:
        size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
        if size > LARGEST:
            raise TargetError(
                f"{size / 1e9:.1f} GB of weights: a page can load {LARGEST / 1e9:g} GB; cut or quantize the model"
            )
        (directory / FOLDER).mkdir(exist_ok=True)
        ir.save(model, directory / self.artifact)

    def files(self, directory: Path) -> list[Path]:
        return [directory / self.artifact]

    def options(self, *, regroup: bool) -> dict[str, Any]:
        return session_options(regroup=regroup)

    @cached_property
    def node(self) -> dict[str, str] | str:
        """The versions of what an export is checked in, see `wasm.versions`."""
        return versions()

    def open(self, directory: Path, options: dict[str, Any], threads: int | None = None) -> Runner:
        if isinstance(self.node, dict):
            return WasmRunner(directory / self.artifact, options, self.node)
        return OrtRunner(directory / self.artifact, options, threads)

    def record(self, directory: Path) -> dict[str, Any]:
        if isinstance(self.node, str):
            return {"checked": f"ONNX Runtime on the processor; WebAssembly was not run: {self.node}"}
        return {"checked": "onnxruntime-web in Node", **self.node}

    def finish(self, directory: Path, manifest: Manifest) -> None:
        add_page(directory, manifest)


def web_target(recipe: Recipe) -> WebTarget:
    """Return the target that a recipe describes."""
    kinds = [
        "fp16" if isinstance(p, HalfSpec) else {"int8": "q8", "int4": "q4"}[p.weights]
        for p in recipe.passes
        if isinstance(p, HalfSpec | QuantizeSpec)
    ]
    return WebTarget(kinds[-1] if kinds else "fp32")


def add_page(directory: Path, manifest: Manifest) -> None:
    """Write the page into a bundle, and note for transformers.js which of its dtypes the file is.

    Raise GateError where the page's token ids differ from the source's.
    """
    compared = compare_in_javascript(directory, manifest.tokenizer)
    manifest.engine = (manifest.engine or {}) | {"tokenizer": compared}
    (directory / "web").mkdir(exist_ok=True)
    for name in PAGE_FILES:
        shutil.copyfile(_PAGE / name, directory / "web" / name)
    for name in ROOT_FILES:
        shutil.copyfile(_PAGE / name, directory / name)
    config = directory / "config.json"
    if config.is_file():
        kinds = {f"{FOLDER}/model{suffix}.onnx": kind for kind, suffix in SUFFIXES.items()}
        content = read_json(config)
        content["transformers.js_config"] = content.get("transformers.js_config", {}) | {
            "dtype": kinds[manifest.artifact]
        }
        config.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def card_lines(manifest: Manifest) -> list[str]:
    """Return the card's lines on how the page is served, and whose token ids it gives."""
    tokens = (manifest.engine or {}).get("tokenizer", {})
    theirs = tokens.get("transformers.js", "not compared")
    if isinstance(theirs, Mapping):
        theirs = (
            f"other ones on {theirs['different']} of them, in these classes of text: {', '.join(theirs['classes'])}"
        )
    return [
        "",
        "## In a browser",
        "",
        "```",
        "npm ci --ignore-scripts     # onnxruntime-web, beside the page",
        "headway serve .             # or any server of files; threads need the two headers that this one sends",
        "```",
        "",
        "The page needs `index.html`, `web/`, `headway.json`, the tokenizer's file, `onnx/` and of onnxruntime-web's `dist/` three",
        "files: `ort.wasm.min.mjs`, `ort-wasm-simd-threaded.mjs` and `ort-wasm-simd-threaded.wasm`. transformers.js opens the directory",
        "too: `pipeline(task, directory)`.",
        "",
        f"Token ids, on {tokens.get('lines', 'no')} lines of mixed Unicode: the page's are {tokens.get('page', 'not compared')}; "
        f"transformers.js's are {theirs}.",
    ]
