"""LiteRT: a `.tflite` file with a signature for each of a few lengths, all of the same weights; float32 or dynamically quantized int8.

The runtime takes no symbolic length, so that a text is padded to the next length there is; the lengths follow the text's own. The
converter, litert-torch, does not fit beside transformers 5: it runs in an environment of its own, see `litert_convert`.
It writes float32; matrices that the graph holds in whole numbers become int8 with the very same integers and scales afterwards.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ....calibration.rounding import QuantizedMatrix
from ....engine.profiles import make_profiles
from ....errors import TargetError
from ....json_file import read_json
from ....runners.rows import LITERT_FILE, LITERT_RECORD, LiteRtRunner
from ...graph.anatomy import Anatomy
from ...graph.edit import constant, nodes, sequence_axis
from ...graph.quantized import matrix_of
from ...quiet import quiet
from ..base import TargetSpec, Text
from .torch_export import WAY_OUT, check_rounding

SPEC = TargetSpec("litert", neuron_multiple=16, rank_multiple=16, rounds_tokens=True)
PYTHON = "HEADWAY_LITERT_PYTHON"
MISSING = "target litert needs its runtime, ai-edge-litert, which is not here: pip install 'headway[litert]'"
NO_CONVERTER = (
    "target litert: the converter, litert-torch, does not fit beside transformers 5. Make it an environment of its own "
    "(python -m venv litert && litert/bin/pip install torch==2.13.0 'headway[litert-export]'), and set "
    f"{PYTHON} to its Python"
)

_HYBRID_VERSION = 12
"""Of FULLY_CONNECTED: float values, int8 matrix with a scale for each output, values rounded with a zero point."""


@dataclass(frozen=True)
class LiteRtTarget:
    """This module as a `Target`."""

    spec: TargetSpec = SPEC
    artifact: str = LITERT_FILE
    dtype: str = "float32"

    def available(self) -> str | None:
        if not find_spec("ai_edge_litert"):
            return MISSING
        return None if converter() else NO_CONVERTER

    def lower(self, model: ir.Model, anatomy: Anatomy, text: object = None) -> dict[str, int]:
        """Checks that the file will hold every whole number as it is; the graph stays canonical."""
        return check_rounding(model, "litert", "LiteRT")

    def build(self, model: ir.Model, directory: Path, text: Text) -> None:
        build(model, directory, bucket_lengths(text), pad_id=text.encoder.info.pad_id)

    def files(self, directory: Path) -> list[Path]:
        return [p for p in [directory / LITERT_FILE] if p.is_file()]

    def options(self, *, regroup: bool) -> dict[str, Any]:
        if not regroup:
            raise TargetError(
                "the model answers differently when a text is padded further, and LiteRT pads every text to one of a few "
                "lengths; use --target ort or executorch for it"
            )
        return {}

    def open(self, directory: Path, options: dict[str, Any], threads: int | None = None) -> LiteRtRunner:
        return LiteRtRunner(directory / self.artifact, threads)

    def record(self, directory: Path) -> dict[str, Any]:
        return read_json(directory / LITERT_RECORD)


def bucket_lengths(text: Text) -> list[int]:
    """Lengths of signatures: quantiles of the text's own, the longest there is, and doublings where more than half were padding."""
    borders = [p.max[1] for p in make_profiles(text.lengths, text.longest, batch=1)]
    lengths: list[int] = []
    for border in borders:
        while lengths and lengths[-1] * 2 < border:
            lengths.append(lengths[-1] * 2)
        lengths.append(border)
    return lengths


def converter() -> str | None:
    """The Python that has litert-torch: this one, or the one that the environment variable names."""
    if find_spec("litert_torch"):
        return sys.executable
    named = os.environ.get(PYTHON)
    return named if named and Path(named).is_file() else None


def build(model: ir.Model, directory: Path, lengths: list[int], *, pad_id: int) -> None:
    """Writes the file with a signature for each of `lengths`, in tokens, and a record of what it takes and holds.

    TargetError where the converter refuses, or a matrix of whole numbers is not found again in what it wrote.
    """
    path = directory / LITERT_FILE
    _convert(model, path, lengths)
    operators = hold_integers(path, _matrices(model))
    record = {
        "inputs": [str(v.name) for v in model.graph.inputs],
        "outputs": [[str(v.name), sequence_axis(v)] for v in model.graph.outputs],
        "lengths": lengths,
        "pad_id": pad_id,
        "libraries": {"ai-edge-litert": version("ai-edge-litert")},
        "operators": operators,
        "not_delegated": [{"operator": n, "count": c} for n, c in left_over(_operators(path)).items()],
    }
    (directory / LITERT_RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def left_over(operators: list[dict[str, Any]]) -> dict[str, int]:
    """Of operators as the interpreter lists them, after delegates took theirs: how many of each kind they left.

    The list holds both what a delegate took and the node that does it now; what was taken lies between that node's ends.
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
    """Those of the first signature, as the runtime would execute them here, XNNPACK in it."""
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
    with tempfile.TemporaryDirectory() as folder:
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
    """Every matrix that the graph holds in whole numbers, by its name."""
    found = {}
    for node in nodes(model.graph, "MatMul"):
        whole = matrix_of(node)
        if whole is not None:
            q, scale = (constant(v) for v in whole)
            assert q is not None and scale is not None
            found[str(whole[0].name)] = QuantizedMatrix(q, scale)
    return found


def hold_integers(path: Path, matrices: dict[str, QuantizedMatrix]) -> dict[str, int]:
    """Makes each matrix of a float32 file int8 with the integers and scales given, in place; returns the operators of a signature.

    A matrix is found by its float32 content, which the converter leaves to be rounded at run time before each product. The runtime
    then rounds what it is multiplied by for each token, with a zero point.
    Schema: `tflite/schema/schema.fbs`, `QuantizationParameters` and `FullyConnectedOptions`. TargetError names a matrix that is
    not there.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    content = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    kinds = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    kind_of = [kinds.get(c.builtinCode, "CUSTOM") for c in content.operatorCodes]
    wanted = {_digest(np.ascontiguousarray(m.dequantized().T)): (name, m) for name, m in matrices.items()}
    buffers = {
        i: wanted[d] for i, b in enumerate(content.buffers) if b.data is not None and (d := _digest(b.data)) in wanted
    }
    missing = set(matrices) - {name for name, _ in buffers.values()}
    if missing:
        raise TargetError(
            f"{min(missing)}: LiteRT's converter has rewritten this int8 matrix, so that its integers cannot be kept; {WAY_OUT}"
        )

    class Quantization(schema.QuantizationParametersT):
        """Of one matrix; written once, though every signature has a tensor for the matrix."""

        def __init__(self, matrix: QuantizedMatrix):
            super().__init__()
            self.scale = matrix.scale.astype(np.float32)
            self.zeroPoint = np.zeros(len(self.scale), np.int64)
            self.quantizedDimension = 0
            self.written: int | None = None

        def Pack(self, builder: Any) -> int:
            if self.written is None:
                self.written = super().Pack(builder)
            return self.written

    quantizations = {i: Quantization(m) for i, (_, m) in buffers.items()}
    for graph in content.subgraphs:
        makers = {int(i): o for o in graph.operators for i in o.outputs}
        taken, idle = set(), []
        for operator in graph.operators:
            if kind_of[operator.opcodeIndex] != "FULLY_CONNECTED":
                continue
            back = makers.get(int(operator.inputs[1]))
            there = makers.get(int(back.inputs[0])) if back is not None else None
            if there is None or graph.tensors[there.inputs[0]].buffer not in buffers:
                continue
            tensor = graph.tensors[there.inputs[0]]
            operator.inputs = np.array([operator.inputs[0], there.inputs[0], *operator.inputs[2:]], np.int32)
            operator.builtinOptions.asymmetricQuantizeInputs = True
            tensor.type, tensor.quantization = schema.TensorType.INT8, quantizations[tensor.buffer]
            taken.add(tensor.buffer)
            idle += [back, there]
        graph.operators = [o for o in graph.operators if not any(o is i for i in idle)]
        for operator in idle:  # their results keep a number and nothing else
            graph.tensors[operator.outputs[0]].quantization = None
        lost = next((name for i, (name, _) in buffers.items() if i not in taken), None)
        if lost is not None:
            raise TargetError(f"{lost}: something other than a product reads this int8 matrix; {WAY_OUT}")
        for tensor in graph.tensors:  # long, and nothing reads them: signatures name inputs and outputs on their own
            tensor.name = b""
    for index, (_, matrix) in buffers.items():
        content.buffers[index].data = np.ascontiguousarray(matrix.q.T).view(np.uint8).reshape(-1)
    if buffers:
        for code, kind in zip(content.operatorCodes, kind_of, strict=True):
            if kind == "FULLY_CONNECTED":
                code.version = max(code.version, _HYBRID_VERSION)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(content.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
    return dict(Counter(kind_of[o.opcodeIndex] for o in content.subgraphs[0].operators))


def _digest(data: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()
