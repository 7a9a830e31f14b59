"""Store the integers and scales of quantized weights in a float32 `.tflite` file.

Schema: `tflite/schema/schema.fbs`, `QuantizationParameters` and `FullyConnectedOptions`. The converter has no way to take integers that
are given, so the file is edited with the schema's own generated reader and writer.
"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ....calibration.rounding import QuantizedMatrix
from ....errors import TargetError
from .torch_export import WAY_OUT

_HYBRID_VERSION = 12
"""Version of FULLY_CONNECTED: float activations, int8 weights with a scale per output, activations quantized with a zero point."""


def store_integers(path: Path, matrices: dict[str, QuantizedMatrix]) -> dict[str, int]:
    """Make each of the weights int8 with the integers and scales given, in place; return the operators of a signature.

    Weights are found by their float32 content, which the converter leaves to be quantized at run time before each matmul. The
    runtime then quantizes activations per token, with a zero point. Raise TargetError for weights that are not in the file.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    content = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    kinds = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    kind_of = [kinds.get(c.builtinCode, "CUSTOM") for c in content.operatorCodes]
    buffers = _buffers_of(content, matrices)
    parameters = {i: _parameters(schema, matrix) for i, (_, matrix) in buffers.items()}
    for graph in content.subgraphs:
        read = _read_integers(graph, kind_of, parameters, schema.TensorType.INT8)
        lost = next((name for i, (name, _) in buffers.items() if i not in read), None)
        if lost is not None:
            raise TargetError(f"{lost}: something other than a matmul reads these int8 weights; {WAY_OUT}")
        for (
            tensor
        ) in graph.tensors:  # names are long, and nothing reads them: signatures name inputs and outputs themselves
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


def _buffers_of(content: Any, matrices: dict[str, QuantizedMatrix]) -> dict[int, tuple[str, QuantizedMatrix]]:
    """Return the weights by the number of the buffer that holds them in float32. Raise TargetError for those that none holds."""
    wanted = {_digest(np.ascontiguousarray(m.dequantized().T)): (name, m) for name, m in matrices.items()}
    buffers = {
        i: wanted[d] for i, b in enumerate(content.buffers) if b.data is not None and (d := _digest(b.data)) in wanted
    }
    missing = set(matrices) - {name for name, _ in buffers.values()}
    if missing:
        raise TargetError(
            f"{min(missing)}: LiteRT's converter has rewritten these int8 weights, so that their integers cannot be kept; {WAY_OUT}"
        )
    return buffers


def _parameters(schema: Any, matrix: QuantizedMatrix) -> Any:
    """Return the quantization of weights; it is written once, though every signature has a tensor for the weights."""

    class Parameters(schema.QuantizationParametersT):
        def __init__(self) -> None:
            super().__init__()
            self.scale = matrix.scale.astype(np.float32)
            self.zeroPoint = np.zeros(len(self.scale), np.int64)
            self.quantizedDimension = 0
            self.written: int | None = None

        def Pack(self, builder: Any) -> int:
            if self.written is None:
                self.written = super().Pack(builder)
            return self.written

    return Parameters()


def _read_integers(graph: Any, kind_of: list[str], parameters: dict[int, Any], int8: int) -> set[int]:
    """Make linear layers read int8 weights without the two operators between; return the buffers that are now read so."""
    makers = {int(i): o for o in graph.operators for i in o.outputs}
    read, idle = set(), []
    for operator in graph.operators:
        if kind_of[operator.opcodeIndex] != "FULLY_CONNECTED":
            continue
        dequantize = makers.get(int(operator.inputs[1]))
        quantize = makers.get(int(dequantize.inputs[0])) if dequantize is not None else None
        if quantize is None or graph.tensors[quantize.inputs[0]].buffer not in parameters:
            continue
        tensor = graph.tensors[quantize.inputs[0]]
        operator.inputs = np.array([operator.inputs[0], quantize.inputs[0], *operator.inputs[2:]], np.int32)
        operator.builtinOptions.asymmetricQuantizeInputs = True
        tensor.type, tensor.quantization = int8, parameters[tensor.buffer]
        read.add(tensor.buffer)
        idle += [dequantize, quantize]
    graph.operators = [o for o in graph.operators if not any(o is i for i in idle)]
    for operator in idle:  # their results keep a number and nothing else
        graph.tensors[operator.outputs[0]].quantization = None
    return read


def _digest(data: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()
