"""Find what would saturate, overflow, be refused or run slowly on a processor or runtime that an artifact was not made for.

The ONNX or `.ort` file itself is read; findings name the module whose weights are concerned. Nothing is measured on that target:
findings follow from number formats and operator sets. What may be slow is to be measured there with `headway bench`.
"""

from collections.abc import Iterable, Iterator
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
from ..graph.quantized import DOMAIN, quantized_weight_of
from ..recipe.targets import TARGETS, GraphRules
from ..targets.ort.int8 import CONTRIB
from ..targets.phones.ort_format import OrtFile, read_ort

Severity = Literal["error", "slow"]
_INT16, _INT32 = 2**15 - 1, 2**31 - 1
_INTEGER_PRODUCTS = {"MatMulIntegerToFloat": 1, "DynamicQuantizeMatMul": 1, "MatMulInteger": 1, "QLinearMatMul": 3}
"""Operators that multiply bytes, and which of their inputs holds the weights."""

_CURE = f"set session entry {X64_PRECISION}=1, use 7-bit weights, or Headway's kernels"
_CURE_ORT = (
    f"nothing optimizes a .ort file when it is loaded, so that {X64_PRECISION} does not help: export it for --target ort-mobile, "
    "which stores these weights as uint8"
)


@dataclass(frozen=True)
class Finding:
    """One finding. `where` is the module or node; an "error" would give wrong outputs or none, "slow" may cost time."""

    severity: Severity
    where: str
    what: str


class Findings(list[Finding]):
    """Findings about the graph in `file`, of which so many `nodes` were read."""

    def __init__(self, findings: Iterable[Finding], file: Path, nodes: int):
        super().__init__(findings)
        self.file, self.nodes = file, nodes


_ANY_CPU = GraphRules(own=True)


@dataclass(frozen=True)
class Processor:
    """What counts about a processor, or about the runtime of a target.

    `saturates`: products of unsigned by signed bytes are added in pairs in signed 16 bits (x86 before VNNI: `vpmaddubsw`).
    """

    saturates: bool = False
    graph: GraphRules = _ANY_CPU


PROCESSORS: dict[str, Processor] = {
    "x86-avx2": Processor(saturates=True),
    "x86-vnni": Processor(),
    "arm-dotprod": Processor(),
    "arm-i8mm": Processor(),
    **{name: Processor(graph=entry.graph) for name, entry in TARGETS.items() if entry.graph is not None},
}


def lint(path: Path, target: str) -> Findings:
    """Return findings about a bundle, or an `.onnx` or `.ort` file, on one of `PROCESSORS`, errors first."""
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
    _check_inputs(file, graphs)
    findings = [f for graph in graphs for f in _findings(graph, processor, exact, cure)]
    return Findings(sorted(findings, key=lambda f: f.severity), file, sum(len(graph) for graph in graphs))


_FEWEST = {"MatMul": 2, "DequantizeLinear": 2, "QuantizeLinear": 2, "MatMulNBits": 3} | {
    name: index + 1 for name, index in _INTEGER_PRODUCTS.items()
}
"""The fewest inputs of the operators that findings are about."""


def _check_inputs(file: Path, graphs: list[ir.Graph]) -> None:
    """Raise SourceError naming a node that has fewer inputs than its operator takes: the file is damaged."""
    for node in (node for graph in graphs for node in graph):
        if len(node.inputs) < _FEWEST.get(node.op_type, 0):
            raise SourceError(
                f"{file}: damaged: node {node.name!r} ({node.op_type}) has {len(node.inputs)} inputs, and needs at least "
                f"{_FEWEST[node.op_type]}: download it again"
            )


def _as_graph(file: OrtFile) -> ir.Graph:
    """Return the operators of a `.ort` file and its int8 weights, as far as findings need them."""
    values: dict[str, ir.Value] = {}
    for t in file.tensors.values():
        values[t.name] = ir.Value(name=t.name)
        if t.dtype == "int8" and t.raw is not None:
            values[t.name].const_value = ir.Tensor(t.raw.view(np.int8).reshape(t.shape), name=t.name)
    initializers = [v for v in values.values() if v.const_value is not None]
    graph_nodes = []
    for n in file.nodes:
        inputs = [values.setdefault(i, ir.Value(name=i)) if i else None for i in n.inputs]
        graph_nodes.append(ir.Node(n.domain, n.op_type, inputs, num_outputs=len(n.outputs), name=n.name))
        for value, name in zip(graph_nodes[-1].outputs, n.outputs, strict=True):
            value.name, values[name] = name, value
    return ir.Graph([], [], nodes=graph_nodes, initializers=initializers)


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
        weight = quantized_weight_of(node)
        if weight is not None and _quantized_activations(node) is None:
            yield Finding(
                "slow",
                _module(weight[0]),
                "weight-only: the matmul itself runs in float32; it saves bytes, and `headway bench` tells whether it saves time",
            )
    for node in nodes(graph, "MatMulNBits"):
        what = "int4 matmuls may take longer than float32 ones there: `headway bench` tells"
        yield Finding("slow", _module(node.inputs[1]), what)


def _operator(node: ir.Node, processor: Processor) -> Iterator[Finding]:
    if node.domain == DOMAIN and not processor.graph.own:
        yield Finding(
            "error", _place(node), f"{DOMAIN}.{node.op_type} cannot be loaded there: export with stock operators"
        )
    if node.domain == CONTRIB and not processor.graph.contrib:
        yield Finding("error", _place(node), f"{CONTRIB}.{node.op_type} is not known there: export for that target")
    if processor.graph.signed and node.op_type in ("DynamicQuantizeLinear", "MatMulInteger"):
        yield Finding("error", _place(node), f"{node.op_type} is not parsed there: calibrate static ranges")


def _zero_point(node: ir.Node, processor: Processor) -> Iterator[Finding]:
    if not processor.graph.signed or len(node.inputs) < 3:
        return
    zero = constant(node.inputs[2])
    if zero is not None and (zero.dtype == np.uint8 or zero.any()):
        yield Finding(
            "error", _place(node), "quantized with a zero point, or to uint8: int8 with zero point 0 is expected there"
        )


def _sums(node: ir.Node, matrix: ir.Value, processor: Processor, exact: bool, cure: str) -> Iterator[Finding]:
    """Find saturation of 16-bit pairs and overflow of 32-bit sums, by the weights themselves and for the worst activations."""
    array = constant(matrix)
    if array is None or array.dtype != np.int8 or array.ndim != 2:
        return
    integers = array.astype(np.int64)
    pairs = np.pad(integers, ((0, len(integers) % 2), (0, 0))).reshape(-1, 2, integers.shape[1])
    worst = 255 * np.maximum(np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1))
    over = worst.max(axis=0, initial=0) > _INT16
    if processor.saturates and not exact and node.domain != DOMAIN and over.any():
        yield Finding(
            "error",
            _module(matrix),
            f"{int(over.sum())} of {len(over)} outputs can saturate: pairs of products exceed 16 bits; {cure}",
        )
    if (255 * np.abs(integers).sum(axis=0)).max(initial=0) > _INT32:
        yield Finding("error", _module(matrix), "32-bit sums can overflow: too many inputs")


def _byte_matrix(node: ir.Node) -> ir.Value | None:
    """Return the int8 weights of a matmul of bytes: a fused operator, or one that the runtime will fuse; else None."""
    if node.op_type in _INTEGER_PRODUCTS:
        value = node.inputs[_INTEGER_PRODUCTS[node.op_type]]
        return value if value is not None and value.is_initializer() else None
    matrix = quantized_weight_of(node) if node.op_type == "MatMul" else None
    return matrix[0] if matrix is not None and _quantized_activations(node) is not None else None


def _quantized_activations(node: ir.Node) -> ir.Node | None:
    back = producer(node.inputs[0], "DequantizeLinear")
    return producer(back.inputs[0], "QuantizeLinear", "DynamicQuantizeLinear") if back is not None else None


def _module(matrix: ir.Value | None) -> str:
    name = str(matrix.name) if matrix is not None else "?"
    return module_of_weight([name]) or name.removesuffix(".packed")


def _place(node: ir.Node) -> str:
    return module_of(node) or str(node.name)
