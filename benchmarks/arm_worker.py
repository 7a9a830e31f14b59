"""Answers of one artifact, wherever it runs: `python arm_worker.py ARTIFACT BUNDLE TEXTS.json [--otherwise] ANSWERS.npz`.

A bundle answers through `headway.Bundle`, from text, each text alone and all of them as one batch, padded. An `.onnx`, `.ort` or
`.tflite` file answers the token ids of the bundle that it lies in, or else of BUNDLE. With --otherwise ONNX
Runtime fuses other operators: those that a bundle leaves unfused, none of another file. Needs what a bundle needs.
"""

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from headway.bundle import Bundle
from headway.manifest import MANIFEST, Manifest
from headway.runners.ort import OrtRunner
from headway.runners.rows import RECORD_FILE, RowRunner
from headway.text import TextEncoder

LENGTH = 32
"""Tokens that a text is cut to."""

PTE_LIBRARY = "PTE_LIBRARY"
"""Environment variable with the path of `peers/pte.cc`, compiled: set where torch is not at hand."""


def answers(artifact: Path, tokenizer: Path, texts: list[str], *, otherwise: bool = False) -> dict[str, np.ndarray]:
    """`ids/<text>` and `<text>/<output>`; the batch counts as one more text."""
    encode, run = _open(artifact, tokenizer, otherwise)
    found: dict[str, np.ndarray] = {}
    for i, batch in enumerate([*([t] for t in texts), texts]):
        feeds = encode(batch)
        found[f"ids/{i}"] = feeds["input_ids"]
        mask = feeds["attention_mask"].astype(bool)
        for name, value in run(feeds).items():
            found[f"{i}/{name}"] = value[mask] if value.shape[:2] == mask.shape else value
    return found


def _open(artifact: Path, tokenizer: Path, otherwise: bool) -> tuple[Any, Any]:
    """How text becomes ids, and ids become answers."""
    bundle_of = next((p for p in (artifact, *artifact.resolve().parents) if (p / MANIFEST).is_file()), tokenizer)
    manifest = Manifest.read(bundle_of)
    info = manifest.tokenizer
    encoder = TextEncoder(bundle_of / info.file, info)
    if artifact.is_dir() and manifest.artifact.endswith(".pte") and PTE_LIBRARY in os.environ:
        run = PteRunner(artifact / manifest.artifact, manifest.session_options).run
    elif artifact.is_dir() and otherwise:
        options = {**manifest.session_options, "disabled_optimizers": []}
        run = OrtRunner(artifact / manifest.artifact, options, threads=1).run
    elif artifact.is_dir():
        run = Bundle.open(artifact, threads=1).runner.run
    elif artifact.suffix == ".tflite":
        run = _litert(artifact)
    else:
        run = OrtRunner(artifact, {"graph_optimization_level": "none"} if otherwise else {}, threads=1).run
    return (lambda texts: encoder(texts, min(LENGTH, info.max_length))), run


class PteRunner(RowRunner):
    """A `.pte` program on ExecuTorch's C++ runtime: its runtime for Python needs torch, whose arm64 wheel needs CUDA."""

    def __init__(self, program: Path, options: dict[str, Any]):
        self._library = ctypes.CDLL(os.environ[PTE_LIBRARY])
        self._library.pte_open.restype = ctypes.c_void_p
        self._program = ctypes.c_void_p(self._library.pte_open(str(program).encode()))
        if not self._program:
            raise SystemExit(f"{program}: ExecuTorch cannot load it")
        record = json.loads(program.with_name(RECORD_FILE).read_text(encoding="utf-8"))
        outputs = [(name, axis) for name, axis in record["outputs"]]
        super().__init__(
            record["inputs"], outputs, max_length=record["max_length"], cut_padding=bool(options.get("cut_padding"))
        )

    def row(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        length = feeds["input_ids"].shape[1]
        inputs = (ctypes.c_void_p * len(self.input_names))(*(feeds[n].ctypes.data for n in self.input_names))
        found = (ctypes.POINTER(ctypes.c_float) * len(self.output_names))()
        sizes = (ctypes.c_int64 * len(self.output_names))()
        error = self._library.pte_run(self._program, inputs, len(inputs), length, found, sizes)
        if error:
            raise SystemExit(f"ExecuTorch: error {error}")
        shapes = [(1, -1) if axis is None else (1, length, -1) for axis in self._axes.values()]
        flat = [np.ctypeslib.as_array(p, (n,)).copy() for p, n in zip(found, sizes, strict=True)]
        return [array.reshape(shape) for array, shape in zip(flat, shapes, strict=True)]


def _litert(artifact: Path) -> Any:
    """Return the signature with the least length that holds the batch, one text at a time; inputs by the end of their names."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(artifact), num_threads=1)
    lengths = {}
    for key in interpreter.get_signature_list():
        details = interpreter.get_signature_runner(key).get_input_details()
        lengths[max(int(d["shape"][-1]) for d in details.values())] = key

    def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        wanted = feeds["input_ids"].shape[1]
        length = min((n for n in lengths if n >= wanted), default=max(lengths))
        runner = interpreter.get_signature_runner(lengths[length])
        details = runner.get_input_details()
        parts = []
        for row in range(len(feeds["input_ids"])):
            given = {}
            for name, detail in details.items():
                source = next(array for key, array in feeds.items() if name.endswith(key) or key.startswith(name))
                padded = np.zeros((1, length), detail["dtype"])
                padded[0, : min(wanted, length)] = source[row, :length]
                given[name] = padded
            parts.append(runner(**given))
        whole = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        return {name: value[:, :wanted] if value.ndim == 3 else value for name, value in whole.items()}

    return run


if __name__ == "__main__":
    artifact, tokenizer, texts, *options, out = map(Path, sys.argv[1:])
    chosen = json.loads(texts.read_text(encoding="utf-8"))
    np.savez(out, **answers(artifact, tokenizer, chosen, otherwise=bool(options)))
