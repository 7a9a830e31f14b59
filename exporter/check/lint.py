"""What an artifact would do badly on a processor or runtime it was not made for: saturate, overflow, be refused, run slowly.

Reads the ONNX or `.ort` file itself; findings name the module whose weight is concerned. Nothing here is measured on that target: what is
said follows from number formats and operator sets; of time it says what may be slow, to be measured there with `headway bench`.
For what saturates see `Processor`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx_ir as ir

from ...errors import SourceError, UsageError
from ...manifest import MANIFEST, Manifest
from ...processor import X64_PRECISION
from ...runners.open import graph_of
from ..graph.edit import constant, module_of, nodes, producer
from ..graph.names import module_of_weight
from ..graph.quantized import DOMAIN, matrix_of
from ..targets.ort.int8 import CONTRIB
from ..targets.phones.ort_format import OrtFile, read_ort

Severity = Literal["error", "slow"]
_INT16, _INT32 = 2**15 - 1, 2**31 - 1
_INTEGER_PRODUCTS = {"MatMulIntegerToFloat": 1, "DynamicQuantizeMatMul": 1, "MatMulInteger": 1, "QLinearMatMul": 3}
"""Operators that multiply bytes, and which input is the matrix."""

_CURE = f"set session entry {X64_PRECISION}=1, use 7-bit weights, or Headway's kernels"
_CURE_ORT = f"nothing optimizes a .ort file when it is loaded, so that {X64_PRECISION} does not help: export for --target ort there"


@dataclass(frozen=True)
class Finding:
    """`where` is the module or node; an "error" would give wrong answers or none, "slow" may cost time."""

    severity: Severity
    where: str
    what: str


@dataclass(frozen=True)
class Processor:
    """What counts about a target. `saturates`: products of unsigned by signed bytes are added in pairs in signed 16 bits (x86 before
    VNNI: `vpmaddubsw`). `signed`: rounded values have to be int8 with zero point 0. `contrib`, `own`: whether the runtime
    knows com.microsoft's operators, and can load Headway's.
    """

    saturates: bool = False
    signed: bool = False
    contrib: bool = True
    own: bool = True


PROCESSORS = {
    "x86-avx2": Processor(saturates=True),
    "x86-vnni": Processor(),
    "arm-dotprod": Processor(),
    "arm-i8mm": Processor(),
    "ort-mobile": Processor(own=False),
    "tensorrt": Processor(signed=True, contrib=False, own=False),
}


def lint(path: Path, target: str) -> list[Finding]:
    """Findings about a bundle, or an `.onnx` or `.ort` file, on one of `PROCESSORS`, errors first."""
    processor = PROCESSORS.get(target)
    if processor is None:
        raise UsageError(f"target {target!r} is not known to lint; known: {', '.join(PROCESSORS)}")
    manifest = Manifest.read(path) if (path / MANIFEST).is_file() else None
    file = graph_of(path / manifest.artifact) if manifest is not None else path
    if manifest is not None and not file.is_file():
        raise UsageError(f"{path}: a bundle for {manifest.target} has no ONNX graph that lint could read")
    if file.suffix == ".ort":
        graphs, exact, cure = [_as_graph(read_ort(file))], False, _CURE_ORT
    else:
        try:
            graphs = list(_graphs(ir.load(file)))
        except Exception as error:  # protobuf and onnx_ir raise their own kinds
            raise SourceError(f"{file}: not an ONNX file ({error})") from error
        config = manifest.session_options.get("config", {}) if manifest is not None else {}
        exact, cure = str(config.get(X64_PRECISION, "0")) == "1", _CURE
    found = [f for graph in graphs for f in _findings(graph, processor, exact, cure)]
    return sorted(found, key=lambda f: f.severity)


def _as_graph(file: OrtFile) -> ir.Graph:
    """The operators of a `.ort` file and its int8 matrices, as far as findings look at them."""
    values: dict[str, ir.Value] = {}
    for t in file.tensors.values():
        values[t.name] = ir.Value(name=t.name)
        if t.dtype == "int8" and t.raw is not None:
            values[t.name].const_value = ir.Tensor(t.raw.view(np.int8).reshape(t.shape), name=t.name)
    initializers = [v for v in values.values() if v.const_value is not None]
    made = []
    for n in file.nodes:
        inputs = [values.setdefault(i, ir.Value(name=i)) if i else None for i in n.inputs]
        made.append(ir.Node(n.domain, n.op_type, inputs, num_outputs=len(n.outputs), name=n.name))
        for value, name in zip(made[-1].outputs, n.outputs, strict=True):
            value.name, values[name] = name, value
    return ir.Graph([], [], nodes=made, initializers=initializers)


def _graphs(model: ir.Model) -> Iterator[ir.Graph]:
    yield model.graph
    for node in model.graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield attribute.value


def _findings(graph: ir.Graph, processor: Processor, exact: bool, cure: str) -> Iterator[Finding]:
    for node in graph:
        yield from _operator(node, processor)
        matrix = _byte_matrix(node)
        if matrix is not None:
            yield from _sums(node, matrix, processor, exact, cure)
    for node in nodes(graph, "QuantizeLinear"):
        yield from _zero_point(node, processor)
    for node in nodes(graph, "MatMul"):
        found = matrix_of(node)
        if found is not None and _rounded_values(node) is None:
            yield Finding(
                "slow",
                _module(found[0]),
                "weight-only: the product itself runs in float32; it saves bytes, whether time as well `headway bench` tells",
            )
    for node in nodes(graph, "MatMulNBits"):
        what = "int4 products may take longer than float32 ones there: `headway bench` tells"
        yield Finding("slow", _module(node.inputs[1]), what)


def _operator(node: ir.Node, processor: Processor) -> Iterator[Finding]:
    if node.domain == DOMAIN and not processor.own:
        yield Finding(
            "error", _place(node), f"{DOMAIN}.{node.op_type} cannot be loaded there: export with stock operators"
        )
    if node.domain == CONTRIB and not processor.contrib:
        yield Finding("error", _place(node), f"{CONTRIB}.{node.op_type} is not known there: export for that target")
    if processor.signed and node.op_type in ("DynamicQuantizeLinear", "MatMulInteger"):
        yield Finding("error", _place(node), f"{node.op_type} is not parsed there: calibrate static ranges")


def _zero_point(node: ir.Node, processor: Processor) -> Iterator[Finding]:
    if not processor.signed or len(node.inputs) < 3:
        return
    zero = constant(node.inputs[2])
    if zero is not None and (zero.dtype == np.uint8 or zero.any()):
        yield Finding(
            "error", _place(node), "rounded around a zero point, or to uint8: int8 with zero point 0 is expected there"
        )


def _sums(node: ir.Node, matrix: ir.Value, processor: Processor, exact: bool, cure: str) -> Iterator[Finding]:
    """Saturation of 16-bit pairs, overflow of 32-bit sums: by the weights themselves, for the worst values."""
    array = constant(matrix)
    if array is None or array.dtype != np.int8:
        return
    whole = array.astype(np.int64)
    pairs = np.pad(whole, ((0, len(whole) % 2), (0, 0))).reshape(-1, 2, whole.shape[1])
    worst = 255 * np.maximum(np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1))
    over = worst.max(axis=0, initial=0) > _INT16
    if processor.saturates and not exact and node.domain != DOMAIN and over.any():
        yield Finding(
            "error",
            _module(matrix),
            f"{int(over.sum())} of {len(over)} outputs can saturate: pairs of products exceed 16 bits; {cure}",
        )
    if (255 * np.abs(whole).sum(axis=0)).max(initial=0) > _INT32:
        yield Finding("error", _module(matrix), "32-bit sums can overflow: too many inputs")


def _byte_matrix(node: ir.Node) -> ir.Value | None:
    """The int8 matrix of a product of bytes: of a fused operator, or of one that the runtime will fuse."""
    if node.op_type in _INTEGER_PRODUCTS:
        value = node.inputs[_INTEGER_PRODUCTS[node.op_type]]
        return value if value is not None and value.is_initializer() else None
    found = matrix_of(node) if node.op_type == "MatMul" else None
    return found[0] if found is not None and _rounded_values(node) is not None else None


def _rounded_values(node: ir.Node) -> ir.Node | None:
    back = producer(node.inputs[0], "DequantizeLinear")
    return producer(back.inputs[0], "QuantizeLinear", "DynamicQuantizeLinear") if back is not None else None


def _module(matrix: ir.Value | None) -> str:
    name = str(matrix.name) if matrix is not None else "?"
    return module_of_weight([name]) or name.removesuffix(".packed")


def _place(node: ir.Node) -> str:
    return module_of(node) or str(node.name)
