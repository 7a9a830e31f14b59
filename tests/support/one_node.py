"""One ONNX operator by itself: in the graph in torch against ONNX Runtime, and its gradient against finite differences."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch

from headway.exporter.graph.torch_graph import TorchGraph

X = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
SQUARE = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
_STEP = 1e-6
_ENTRIES = 5


@dataclass(frozen=True)
class OneNode:
    """An operator with its inputs, of which the first is fed and the others are constants; None is one that is left out.

    `constant`: indices of float inputs that have no gradient here, as the bound of a window.
    """

    operator: str
    inputs: list[np.ndarray | None]
    attributes: dict[str, Any]
    outputs: int
    opset: int
    constant: Collection[int]

    def __str__(self) -> str:
        said = [f"{k}={str(v)[:30]}" for k, v in self.attributes.items()]
        return "-".join([self.operator, f"{len(self.inputs)}", *said, f"opset{self.opset}"])

    @property
    def free(self) -> dict[str, np.ndarray]:
        """The inputs by name that have a gradient."""
        named = zip(["x", *(f"c{i}" for i in range(len(self.inputs) - 1))], self.inputs, strict=True)
        chosen = {n: a for i, (n, a) in enumerate(named) if a is not None and i not in self.constant}
        return {n: a for n, a in chosen.items() if np.issubdtype(a.dtype, np.floating)}

    @property
    def x(self) -> np.ndarray:
        """The input that is fed."""
        first = self.inputs[0]
        assert first is not None
        return first


def one(
    operator: str,
    *inputs: np.ndarray | np.generic | None,
    outputs: int = 1,
    opset: int = 23,
    constant: Collection[int] = (),
    **attributes: Any,
) -> OneNode:
    """Return an operator to check."""
    arrays = [None if a is None else np.asarray(a) for a in inputs]
    return OneNode(operator, arrays, attributes, outputs, opset, constant)


def i64(*numbers: int) -> np.ndarray:
    """Return a vector of int64."""
    return np.array(numbers, np.int64)


def model_of(case: OneNode) -> ir.Model:
    """Return the model of one node, called `node`."""
    first = ir.Value(name="x", shape=ir.Shape(case.x.shape), type=ir.TensorType(ir.DataType.from_numpy(case.x.dtype)))
    others = [None if a is None else _held(f"c{i}", a) for i, a in enumerate(case.inputs[1:])]
    node = ir.node(case.operator, [first, *others], attributes=case.attributes, num_outputs=case.outputs, name="node")
    for i, out in enumerate(node.outputs):
        out.name = f"y{i}"
    constants = [v for v in others if v is not None]
    imports = {"": case.opset}
    graph = ir.Graph([first], node.outputs, nodes=[node], initializers=constants, opset_imports=imports, name="g")
    return ir.Model(graph, ir_version=10)


def _held(name: str, array: np.ndarray) -> ir.Value:
    return ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        const_value=ir.Tensor(array, name=name),
    )


def in_torch(case: OneNode) -> list[np.ndarray]:
    """Return the outputs as the graph in torch computes them."""
    with torch.no_grad():
        return [t.numpy() for t in TorchGraph(model_of(case))({"x": case.x}).values()]


def in_onnxruntime(case: OneNode, dtypes: Sequence[np.dtype]) -> list[np.ndarray]:
    """Return the outputs as ONNX Runtime computes them. It refuses to load a model whose outputs are not of these dtypes."""
    proto = ir.to_proto(model_of(case))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    for out, dtype in zip(proto.graph.output, dtypes, strict=True):
        out.type.tensor_type.elem_type = int(ir.DataType.from_numpy(dtype))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": case.x})


def check_values(case: OneNode) -> None:
    """Compare with ONNX Runtime: float32 to rounding, all else exactly."""
    got = in_torch(case)
    for wanted, array in zip(in_onnxruntime(case, [a.dtype for a in got]), got, strict=True):
        assert wanted.dtype == array.dtype and wanted.shape == array.shape
        if np.issubdtype(wanted.dtype, np.floating):
            np.testing.assert_allclose(array, wanted, rtol=1e-5, atol=2e-6)
        else:
            np.testing.assert_array_equal(array, wanted)


def with_gradients(cases: Sequence[OneNode], *without: str) -> list[OneNode]:
    """Return the cases that have float inputs, save those of operators whose results are no floats."""
    return [case for case in cases if case.free and case.operator not in without]


def check_gradient(case: OneNode) -> None:
    """Compare the gradient of every float input with finite differences in float64, at a few entries."""
    graph = TorchGraph(model_of(case))
    held = {"x": torch.from_numpy(case.x.copy()), **{name: t.clone() for name, t in graph.weights.items()}}
    held = {name: t.double() if t.is_floating_point() else t for name, t in held.items()}

    def loss(changed: dict[str, torch.Tensor]) -> torch.Tensor:
        tensors = held | changed
        graph.weights = {name: t for name, t in tensors.items() if name != "x"}
        results = graph.run({graph.inputs[0]: tensors["x"]}, graph.outputs)
        floats = [results[v].double() for v in graph.outputs if results[v].is_floating_point()]
        assert floats
        return torch.stack([(t * _weights(t)).sum() for t in floats]).sum()

    free = {name: held[name].clone().requires_grad_() for name in case.free}
    gradients = torch.autograd.grad(loss(free), list(free.values()))
    for name, gradient in zip(free, gradients, strict=True):
        assert torch.isfinite(gradient).all(), name
        flat = gradient.reshape(-1)
        for at in range(0, flat.numel(), max(1, flat.numel() // _ENTRIES)):
            above, below = (loss({name: _moved(held[name], at, step)}).item() for step in (_STEP, -_STEP))
            difference = (above - below) / (2 * _STEP)
            assert abs(difference - flat[at].item()) <= 1e-5 * max(1.0, abs(difference)), (name, at)


def _weights(t: torch.Tensor) -> torch.Tensor:
    """Return what each element of a result counts in the loss: no two the same."""
    return torch.sin(torch.arange(t.numel(), dtype=torch.float64) + 1).reshape(t.shape)


def _moved(t: torch.Tensor, at: int, step: float) -> torch.Tensor:
    moved = t.clone()
    moved.view(-1)[at] += step
    return moved
