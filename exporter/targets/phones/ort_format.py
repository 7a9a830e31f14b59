"""Read `.ort` files: their operators with types, their tensors, and whether a runtime has kernels for all of them.

The file is a FlatBuffer; ONNX Runtime ships the reader of its schema (`onnxruntime.tools.ort_format_model`). That package goes no
further than the operators and types of a file, for reduced builds. It does not say which node lacks a kernel, nor how many bytes each
tensor has, and onnx cannot load the format. So the file is read here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import SourceError, TargetError
from ...graph.names import module_of_weight

X86_ONLY_DOMAINS = frozenset({"com.microsoft.nchwc"})
"""Kernels of blocked layouts exist on x86 alone: an optimized graph with such a node runs nowhere else."""

_TYPES = {
    1: "float",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "double",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
    21: "uint4",
    22: "int4",
}
"""Element types by their number, the same in ONNX (`TensorProto.DataType`) and in the file."""


@dataclass(frozen=True)
class OrtNode:
    """One node. `types` are those of its inputs, "" where one is left out; `domain` "" is ai.onnx."""

    name: str
    op_type: str
    domain: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def operator(self) -> str:
        return f"{self.domain or 'ai.onnx'}.{self.op_type}"


@dataclass(frozen=True)
class OrtTensor:
    """A weight or another constant. `raw`: its bytes, as uint8 `[nbytes]`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    raw: np.ndarray | None = field(default=None, compare=False, repr=False)


@dataclass
class OrtFile:
    """The content of a `.ort` file, with the nodes of sub-graphs."""

    version: str
    nodes: list[OrtNode] = field(default_factory=list)
    tensors: dict[str, OrtTensor] = field(default_factory=dict)

    @cached_property
    def readers(self) -> dict[str, list[OrtNode]]:
        readers: dict[str, list[OrtNode]] = {}
        for node in self.nodes:
            for name in node.inputs:
                readers.setdefault(name, []).append(node)
        return readers

    def operators(self) -> dict[str, int]:
        """Return how many nodes of each operator there are."""
        return dict(sorted(Counter(n.operator for n in self.nodes).items()))

    def kinds(self) -> dict[str, int]:
        """Return the bytes of embeddings (`tables`), of weight matrices, and of all other tensors (`vectors`: biases, norms, scales)."""
        nbytes = {"tables": 0, "matrices": 0, "vectors": 0}
        for tensor in self.tensors.values():
            reads = self.readers.get(tensor.name, [])
            table = any(n.op_type in ("Gather", "GatherBlockQuantized") and n.inputs[0] == tensor.name for n in reads)
            wide = len(tensor.shape) > 1 and min(tensor.shape[-2:]) > 1
            nbytes["tables" if table and len(tensor.shape) > 1 else "matrices" if wide else "vectors"] += tensor.nbytes
        return nbytes

    def module_of(self, node: OrtNode) -> str:
        """Return the Hugging Face module nearest to a node, as `graph.edit.module_of`; where there is none, the node's output."""
        nearby = (*node.inputs, *(v for o in node.outputs for n in self.readers.get(o, []) for v in n.inputs))
        return module_of_weight(n for n in nearby if n in self.tensors) or (*node.outputs, node.name)[0]


def read_ort(path: Path) -> OrtFile:
    """Read a file. Raise SourceError where it is not in ORT format."""
    try:
        import onnxruntime.tools.ort_format_model  # noqa: F401  (makes its schema importable)
        from ort_flatbuffers_py import fbs
    except ModuleNotFoundError as error:
        raise TargetError(f"{path}: reading .ort files needs {error.name}: pip install flatbuffers") from error
    try:
        data = bytearray(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
    root = fbs.InferenceSession.InferenceSession
    if len(data) < 8 or not root.InferenceSessionBufferHasIdentifier(data, 0):
        raise SourceError(f"{path}: not a file in ORT format")
    session = root.GetRootAs(data, 0)
    file = OrtFile(_text(session.OrtVersion()))
    _read_graph(session.Model().Graph(), {}, file, fbs)
    return file


def _read_graph(graph: Any, outside: Mapping[str, str], file: OrtFile, fbs: Any) -> None:
    types = dict(outside) | {
        _text(v.Name()): _type_of(v, fbs) for v in map(graph.NodeArgs, range(graph.NodeArgsLength()))
    }
    for tensor in map(graph.Initializers, range(graph.InitializersLength())):
        shape = tuple(tensor.Dims(i) for i in range(tensor.DimsLength()))
        name, dtype = _text(tensor.Name()), _TYPES.get(tensor.DataType(), str(tensor.DataType()))
        length = tensor.RawDataLength()
        file.tensors[name] = OrtTensor(name, dtype, shape, length, tensor.RawDataAsNumpy() if length else None)
    for node in map(graph.Nodes, range(graph.NodesLength())):
        inputs = tuple(_text(node.Inputs(i)) for i in range(node.InputsLength()))
        outputs = tuple(_text(node.Outputs(i)) for i in range(node.OutputsLength()))
        file.nodes.append(
            OrtNode(
                _text(node.Name()),
                _text(node.OpType()),
                _text(node.Domain()),
                node.SinceVersion(),
                inputs,
                outputs,
                tuple(types.get(i, "") for i in inputs),
            )
        )
        for attribute in map(node.Attributes, range(node.AttributesLength())):
            if attribute.Type() == fbs.AttributeType.AttributeType.GRAPH:
                _read_graph(attribute.G(), types, file, fbs)


def _type_of(value: Any, fbs: Any) -> str:
    info = value.Type()
    if info is None or info.ValueType() != fbs.TypeInfoValue.TypeInfoValue.tensor_type:
        return ""
    tensor = fbs.TensorTypeAndShape.TensorTypeAndShape()
    tensor.Init(info.Value().Bytes, info.Value().Pos)
    return _TYPES.get(tensor.ElemType(), str(tensor.ElemType()))


def _text(raw: bytes | None) -> str:
    return raw.decode() if raw else ""


@dataclass(frozen=True)
class Kernel:
    """One kernel: the versions of the operator that it implements, and the types it takes, by the name of a type constraint."""

    first: int
    last: int
    types: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Schema:
    """An operator's definition from one version on: the name of each input and of its type constraint."""

    version: int
    inputs: tuple[tuple[str, str], ...]

    def constraint(self, place: int) -> tuple[str, str]:
        """Return the names by which a kernel may constrain an input; the last input may be repeated."""
        return self.inputs[min(place, len(self.inputs) - 1)] if self.inputs else ("", "")


@dataclass(frozen=True)
class Runtime:
    """Kernels and definitions of a build, by domain and operator."""

    kernels: Mapping[tuple[str, str], Sequence[Kernel]]
    schemas: Mapping[tuple[str, str], Sequence[Schema]]

    def lacks(self, node: OrtNode) -> str | None:
        """Return for what of a node there is no kernel, in words; None where there is one."""
        known = self.kernels.get((node.domain, node.op_type))
        if not known:
            return node.operator
        fitting = [k for k in known if k.first <= node.version <= k.last]
        if not fitting:
            return f"{node.operator} of version {node.version}"
        schema = max(
            (s for s in self.schemas.get((node.domain, node.op_type), ()) if s.version <= node.version),
            key=lambda s: s.version,
            default=None,
        )
        if schema is None or any(_takes(k, node, schema) for k in fitting):
            return None
        return f"{node.operator} on {', '.join(t for t in node.types if t)}"


def _takes(kernel: Kernel, node: OrtNode, schema: Schema) -> bool:
    for place, dtype in enumerate(node.types):
        for name in schema.constraint(place):
            if dtype and name in kernel.types and dtype not in kernel.types[name]:
                return False
    return True


@cache
def full_build() -> Runtime:
    """Return what ONNX Runtime's packages for phones contain: the kernels of this installation, without those of x86 alone.

    `onnxruntime-android` and `onnxruntime-objc` are full builds of the same source as the Python package. The reduced
    `onnxruntime-mobile` packages were discontinued in 1.18 and 1.19 (release notes; "Remove deprecated mobile packages", pull request
    20941 of microsoft/onnxruntime). The aarch64 wheel of release 1.32.0, examined the same way, has every kernel counted here, and
    float16 arithmetic besides.
    """
    from onnxruntime.capi import _pybind_state as state

    kernels: dict[tuple[str, str], list[Kernel]] = {}
    for definition in state.get_all_opkernel_def():
        if definition.provider == "CPUExecutionProvider" and definition.domain not in X86_ONLY_DOMAINS:
            types = {k: frozenset(t[len("tensor(") : -1] for t in v) for k, v in definition.type_constraints.items()}
            first, last = definition.version_range
            kernels.setdefault((definition.domain, definition.op_name), []).append(Kernel(first, last, types))
    schemas: dict[tuple[str, str], list[Schema]] = {}
    for definition in state.get_all_operator_schema():
        domain = "" if definition.domain == "ai.onnx" else definition.domain
        inputs = tuple((i.name, i.typeStr) for i in definition.inputs)
        schemas.setdefault((domain, definition.name), []).append(Schema(definition.since_version, inputs))
    return Runtime(kernels, schemas)


def check_operators(file: OrtFile, runtime: Runtime) -> None:
    """Raise TargetError naming the first node that the runtime has no kernel for, its module, and what to do."""
    for node in file.nodes:
        lacking = runtime.lacks(node)
        if lacking is not None:
            raise lacks(node.name, file.module_of(node), lacking)


def lacks(node: str, module: str, what: str) -> TargetError:
    """Return the error for an operator that the packages for phones have no kernel for."""
    return TargetError(
        f"node {node!r} of module {module}: ONNX Runtime's packages for phones have no kernel for {what}; leave out the pass "
        "or the operator that makes it (`kernels: stock` (--kernels stock), another dtype), or build the runtime with it"
    )


def largest_first(file: OrtFile) -> list[OrtTensor]:
    """Return the tensors of a file, largest first."""
    return sorted(file.tensors.values(), key=lambda t: (-t.nbytes, t.name))
