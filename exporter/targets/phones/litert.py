"""LiteRT: a `.tflite` file with signatures for a few lengths that share their weights; float32 or dynamically quantized int8.

The runtime takes no symbolic length, so a text is padded to the next length that has a signature; the lengths follow those of the text
given. The converter, litert-torch, cannot be installed beside transformers 5: it runs in an environment of its own, see
`litert_convert`. It writes float32. Weights that the graph holds as integers become int8 afterwards, with the same integers and scales.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ....calibration.rounding import QuantizedMatrix
from ....engine.profiles import make_profiles
from ....errors import TargetError
from ....json_file import read_json
from ....manifest import Manifest
from ....runners.rows import LITERT_FILE, LITERT_RECORD, LiteRtRunner
from ....scratch import scratch
from ...graph.anatomy import Anatomy
from ...graph.edit import constant, nodes, sequence_axis
from ...graph.quantized import quantized_weight_of
from ...quiet import quiet
from ...recipe.recipe import Recipe
from ..base import TargetSpec, Text, installed
from .litert_integers import store_integers
from .torch_export import WAY_OUT, check_quantization

SPEC = TargetSpec("litert", neuron_multiple=16, rank_multiple=16, quantizes_tokens=True, integers="none")
PYTHON = "HEADWAY_LITERT_PYTHON"
MISSING = "target litert needs its runtime, ai-edge-litert, which is not here: pip install 'headway[litert]'"
NO_CONVERTER = (
    "target litert: the converter, litert-torch, does not fit beside transformers 5. Make it an environment of its own "
    "(python -m venv litert && litert/bin/pip install torch==2.13.0 'headway[litert-export]'), and set "
    f"{PYTHON} to its Python"
)


@dataclass(frozen=True)
class LiteRtTarget:
    """Target `litert`."""

    spec: TargetSpec = SPEC
    artifact: str = LITERT_FILE
    dtype: str = "float32"

    def available(self) -> str | None:
        if not installed("ai_edge_litert"):
            return MISSING
        return None if converter() else NO_CONVERTER

    def lower(self, model: ir.Model, anatomy: Anatomy, text: object = None) -> dict[str, int]:
        """Check that the file will hold every integer as it is; the graph stays canonical."""
        return check_quantization(model, "litert", "LiteRT")

    def build(self, model: ir.Model, directory: Path, text: Text) -> None:
        build(model, directory, bucket_lengths(text), pad_id=text.encoder.info.pad_id)

    def files(self, directory: Path) -> list[Path]:
        return [p for p in [directory / LITERT_FILE] if p.is_file()]

    def options(self, *, regroup: bool) -> dict[str, Any]:
        if not regroup:
            raise TargetError(
                "the model's outputs depend on how far a text is padded, and LiteRT pads every text to one of a few "
                "lengths; use --target ort or executorch for it"
            )
        return {}

    def open(self, directory: Path, options: dict[str, Any], threads: int | None = None) -> LiteRtRunner:
        return LiteRtRunner(directory / self.artifact, threads)

    def record(self, directory: Path) -> dict[str, Any]:
        return read_json(directory / LITERT_RECORD)

    def finish(self, directory: Path, manifest: Manifest) -> None:
        pass


def litert_target(recipe: Recipe) -> LiteRtTarget:
    """Return the target that a recipe describes."""
    return LiteRtTarget()


def bucket_lengths(text: Text) -> list[int]:
    """Return the lengths of the signatures, in tokens.

    They are quantiles of the text's own lengths, the longest that the model takes, and doublings between two that are further apart.
    """
    borders = [p.max[1] for p in make_profiles(text.lengths, text.longest, batch=1)]
    lengths: list[int] = []
    for border in borders:
        while lengths and lengths[-1] * 2 < border:
            lengths.append(lengths[-1] * 2)
        lengths.append(border)
    return lengths


def converter() -> str | None:
    """Return the Python that has litert-torch: this one, or the one that the environment variable names; else None."""
    if installed("litert_torch"):
        return sys.executable
    named = os.environ.get(PYTHON)
    return named if named and Path(named).is_file() else None


def build(model: ir.Model, directory: Path, lengths: list[int], *, pad_id: int) -> None:
    """Write the file with a signature for each of `lengths`, in tokens, and a record of its inputs, outputs and operators.

    Raise TargetError where the converter refuses the model, or weights held as integers are not found in the file.
    """
    path = directory / LITERT_FILE
    _convert(model, path, lengths)
    operators = store_integers(path, _matrices(model))
    record = {
        "inputs": [str(v.name) for v in model.graph.inputs],
        "outputs": [[str(v.name), sequence_axis(v)] for v in model.graph.outputs],
        "lengths": lengths,
        "pad_id": pad_id,
        "libraries": {"ai-edge-litert": version("ai-edge-litert")},
        "operators": operators,
        "not_delegated": [{"operator": n, "count": c} for n, c in find_undelegated(_operators(path)).items()],
    }
    (directory / LITERT_RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def find_undelegated(operators: list[dict[str, Any]]) -> dict[str, int]:
    """Return how many operators of each kind no delegate took, from the interpreter's list after delegation.

    The list has both what a delegate took and the delegate's own node; what it took lies between the inputs and outputs of that node.
    """
    delegates = [o for o in operators if o["op_name"] == "DELEGATE"]
    makers = {tensor: o for o in operators if o["op_name"] != "DELEGATE" for tensor in o["outputs"]}
    taken: set[int] = set()
    for delegate in delegates:
        begins, follow = set(delegate["inputs"]), list(delegate["outputs"])
        while follow:
            tensor = follow.pop()
            maker = None if tensor in begins else makers.get(tensor)
            if maker is not None and maker["index"] not in taken:
                taken.add(maker["index"])
                follow.extend(maker["inputs"])
    return dict(Counter(o["op_name"] for o in operators if o not in delegates and o["index"] not in taken))


def _operators(path: Path) -> list[dict[str, Any]]:
    """Return the operators of the first signature as the runtime executes them here, with XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter

    with quiet():
        interpreter = Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
        return [
            {"index": o["index"], "op_name": o["op_name"], **{k: o[k].tolist() for k in ("inputs", "outputs")}}
            for o in interpreter._get_ops_details()
        ]


def _convert(model: ir.Model, path: Path, lengths: list[int]) -> None:
    python = converter()
    if python is None:
        raise TargetError(NO_CONVERTER)
    with scratch() as folder:
        source = Path(folder) / "model.onnx"
        ir.save(model, source, external_data="model.onnx.data")
        command = [
            python,
            "-m",
            "headway.exporter.targets.phones.litert_convert",
            str(source),
            str(path),
            *map(str, lengths),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    problem = path.with_suffix(".json")
    if done.returncode != 0 or not path.is_file():
        reason = f"its process ended with {done.returncode}: {done.stderr.strip()[-500:]}"
        if problem.is_file():
            reason = json.loads(problem.read_text(encoding="utf-8"))["problem"]
            problem.unlink()
        raise TargetError(f"LiteRT cannot convert the model: {reason}; {WAY_OUT}")


def _matrices(model: ir.Model) -> dict[str, QuantizedMatrix]:
    """Return the weights that the graph holds as integers, by name."""
    matrices = {}
    for node in nodes(model.graph, "MatMul"):
        matrix = quantized_weight_of(node)
        if matrix is not None:
            q, scale = (constant(v) for v in matrix)
            assert q is not None and scale is not None
            matrices[str(matrix[0].name)] = QuantizedMatrix(q, scale)
    return matrices
