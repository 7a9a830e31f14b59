"""Whether a lock holds: the same bundle again and again, beside a process that loads one core, and a bundle without its fusions.

    python -m benchmarks.gate_lock [--repeats 20] [--mode default]

all-MiniLM-L6-v2 is exported and locked. Then it is gated by its lock, so often on the machine as it is, and so often beside a process
that does nothing but compute. The bundle without fusions holds the same weights; attention, GELU and norms are ordinary operators, and
the runtime is kept from fusing them. Each gate takes up to two minutes; the result is written after each.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx_ir as ir

import headway
from headway.exporter.graph.decompose import decompose_attention
from headway.exporter.graph.edit import attribute_float
from headway.exporter.targets.ort import target

from . import models
from .results import save


def _steps(node: ir.Node, *steps: tuple[str, list[Any]]) -> None:
    """Replace a node by a chain of operators. A number stands for itself; None, for the result of the step before; x, for a value."""
    graph, result = node.graph, None
    assert graph is not None
    made: list[ir.Value] = []
    for number, (op_type, inputs) in enumerate(steps):
        values = [
            made[i] if isinstance(i, int) else _constant(graph, node, number, i) if isinstance(i, float) else i
            for i in inputs
        ]
        attributes = {"axes": [-1]} if op_type == "ReduceMean" else {}
        if attributes:
            values.append(_axes(graph))
        step = ir.node(op_type, values, num_outputs=1)
        step.outputs[0].name = f"{node.outputs[0].name}.plain.{number}"
        graph.insert_before(node, step)
        result = step.outputs[0]
        made.append(result)
    assert result is not None
    name, node.outputs[0].name = node.outputs[0].name, None
    result.name = name
    ir.convenience.replace_all_uses_with(node.outputs[0], result, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _constant(graph: ir.Graph, node: ir.Node, number: int, value: float) -> ir.Value:
    return _initializer(graph, f"{node.outputs[0].name}.plain.constant.{number}", np.array(value, np.float32))


def _axes(graph: ir.Graph) -> ir.Value:
    return graph.initializers.get("plain.axes") or _initializer(graph, "plain.axes", np.array([-1], np.int64))


def _initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name), shape=ir.Shape(array.shape))
    value.dtype = ir.DataType.from_numpy(array.dtype)
    graph.register_initializer(value)
    return value


def _plain_gelu(node: ir.Node) -> None:
    x = node.inputs[0]
    _steps(node, ("Div", [x, 2**0.5]), ("Erf", [0]), ("Add", [1, 1.0]), ("Mul", [x, 2]), ("Mul", [3, 0.5]))


def _plain_norm(node: ir.Node) -> None:
    x, weight, bias = node.inputs[:3]
    epsilon = attribute_float(node, "epsilon", 1e-5)
    centered = [("ReduceMean", [x]), ("Sub", [x, 0]), ("Mul", [1, 1]), ("ReduceMean", [2]), ("Add", [3, epsilon])]
    _steps(node, *centered, ("Sqrt", [4]), ("Div", [1, 5]), ("Mul", [6, weight]), ("Add", [7, bias]))


_PLAIN = {"Gelu": _plain_gelu, "LayerNormalization": _plain_norm}


def unfused(source: Path, out: Path) -> Path:
    """Export a model whose operators stay as they are."""

    def lower(model: Any, *_: Any, **__: Any) -> target.Fusions:
        decompose_attention(model)
        for node in list(model.graph):
            if node.op_type in _PLAIN:
                _PLAIN[node.op_type](node)
        return target.Fusions()

    def options(**given: Any) -> dict[str, Any]:
        return usual(**given) | {"graph_optimization_level": "none"}

    usual = target.session_options
    with mock.patch.object(target, "lower", lower), mock.patch.object(target, "session_options", options):
        return headway.export(source, out).path


@contextmanager
def busy() -> Iterator[None]:
    """Load one core meanwhile."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def judged(bundle: Path, lock: Path, mode: Any) -> dict[str, Any]:
    """Return verdict, speed with its interval, seconds, and what the machine took away."""
    result = headway.gate(bundle, baseline=lock, mode=mode)
    row = next(row for row in result.rows if row.gate == "speedup_vs")
    found = {
        "verdict": result.verdict,
        "speed": None if row.figure is None else row.figure.to_json(),
        "seconds": result.seconds,
        "taken": result.figures["noise"]["share"],
    }
    print(found, flush=True)
    return found


def main() -> None:
    """Run all, and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate_lock", description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--mode", default="default", choices=("quick", "default", "long"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        source = models.minilm()
        bundle = headway.export(source, folder / "bundle").path
        slow = unfused(source, folder / "slow")
        locked = headway.gate(bundle, mode=arguments.mode, lock=True, out=folder)
        lock = folder / "headway.lock"
        result: dict[str, Any] = {"mode": arguments.mode, "machine": locked.machine, "lock_seconds": locked.seconds}
        result["unfused"] = judged(slow, lock, arguments.mode)
        for name, beside in (("same", nullcontext()), ("beside_a_busy_core", busy())):
            result[name] = []
            with beside:
                for _ in range(arguments.repeats):
                    result[name].append(judged(bundle, lock, arguments.mode))
                    save("gate-lock", result)


if __name__ == "__main__":
    main()
