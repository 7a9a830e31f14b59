"""Run a model in onnxruntime-web's WebAssembly, in a Node process of its own, where Node and the package are installed."""

import json
import re
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import TargetError
from ....runners.base import Limits, prepared

WORKER = Path(__file__).parent / "page" / "worker.mjs"
PACKAGE = "onnxruntime-web"
NO_NODE = "node is not on the PATH: install Node.js 20 or newer"


def versions() -> dict[str, str] | str:
    """Return the versions of Node and onnxruntime-web that would run a model; or why none would, and what to install."""
    node = shutil.which("node")
    if node is None:
        return NO_NODE
    done = subprocess.run([node, WORKER], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return dict(json.loads(done.stdout))
    if "MODULE_NOT_FOUND" in done.stderr:
        return f"node finds no {PACKAGE} from {Path.cwd()}: npm install --ignore-scripts {PACKAGE}, or set NODE_PATH"
    return f"node cannot load {PACKAGE}: {error_of(done.stderr)}"


def error_of(stderr: str) -> str:
    """Return the message of the error that ended a Node process."""
    lines = stderr.splitlines()
    return next((line.partition("Error: ")[2] for line in lines if re.match(r"\w*Error: ", line)), "it gave no reason")


class WasmRunner:
    """A `Runner`: one session on one thread. `versions_here`: what `versions` returned; it is called where not given.

    Raise TargetError where the model cannot be opened, or a batch fails.
    """

    def __init__(self, model: Path, options: Mapping[str, Any], versions_here: dict[str, str] | str | None = None):
        versions_here = versions() if versions_here is None else versions_here
        if isinstance(versions_here, str):
            raise TargetError(f"{model}: {versions_here}")
        self.model, self.versions = model, versions_here
        command = ["node", str(WORKER), str(model), json.dumps(dict(options))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        hello = self._receive()
        self.input_names = tuple(hello["inputs"])
        self.limits = Limits()
        self.output_names = tuple(hello["outputs"])

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one batch: inputs int64 `[batch, sequence]` → outputs by name."""
        wanted = prepared(feeds, self.input_names, self.limits)
        arrays = {name: np.ascontiguousarray(array) for name, array in wanted.items()}
        header = {"tensors": [{"name": n, "type": str(a.dtype), "dims": a.shape} for n, a in arrays.items()]}
        text = json.dumps(header).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(struct.pack("<I", len(text)) + text)
        for array in arrays.values():
            self._process.stdin.write(array.data)
        self._process.stdin.flush()
        answer = self._receive()
        return {t["name"]: self._array(np.dtype(t["type"]), t["dims"]) for t in answer["tensors"]}

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self.close()

    def _receive(self) -> dict[str, Any]:
        header = dict(json.loads(self._read(struct.unpack("<I", self._read(4))[0])))
        if "error" in header:
            raise TargetError(f"{self.model}: {PACKAGE} {self.versions[PACKAGE]} cannot run it: {header['error']}")
        return header

    def _array(self, dtype: np.dtype, shape: list[int]) -> np.ndarray:
        count = int(np.prod(shape))
        return np.frombuffer(self._read(count * dtype.itemsize), dtype).reshape(shape)

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(count)
        if len(data) != count:
            _, stderr = self._process.communicate()
            reason = stderr.decode(errors="replace").strip().splitlines()[-1:] or ["out of memory, most likely"]
            raise TargetError(f"{self.model}: the node process ended: {reason[0]}")
        return data
