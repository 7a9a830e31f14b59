"""ExecuTorch: a `.pte` program for its XNNPACK delegate, in float32, or in int8 with the integers and scales of the graph.

The program takes one text of up to as many tokens as the model does; larger batches are run row by row. Matmuls quantized per token
are the delegate's dynamically quantized ones, which find the range of each token at run time. int8 embeddings are looked up as they
are. Torch and executorch are imported only where something is built.
"""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ....errors import TargetError
from ....json_file import read_json
from ....manifest import Manifest
from ....runners.rows import PROGRAM_FILE, RECORD_FILE, ExecuTorchRunner
from ...graph.anatomy import Anatomy
from ...graph.edit import sequence_axis
from ...quiet import quiet
from ...recipe.recipe import Recipe
from ..base import TargetSpec, Text, installed
from .torch_export import WAY_OUT, check_quantization, export_module, reason_of, step_of

SPEC = TargetSpec("executorch", neuron_multiple=16, rank_multiple=16, quantizes_tokens=True, integers="none")
"""XNNPACK packs weights in strips of 8 or 16 columns."""

MISSING = (
    "target executorch needs the packages executorch and torchao, which are not here: pip install 'headway[executorch]'"
)

_DELEGATE = "executorch_call_delegate"
_NO_WORK = ("getitem", "sym_size")


@dataclass(frozen=True)
class Undelegated:
    """An operator that the delegate did not take: its name, how many of it there are, and the modules they are in."""

    operator: str
    count: int
    modules: list[str]


@dataclass(frozen=True)
class ExecuTorchTarget:
    """Target `executorch`."""

    spec: TargetSpec = SPEC
    artifact: str = PROGRAM_FILE
    dtype: str = "float32"

    def available(self) -> str | None:
        return None if installed("executorch", "torchao") else MISSING

    def lower(self, model: ir.Model, anatomy: Anatomy, text: object = None) -> dict[str, int]:
        """Check that the program will hold every integer as it is; the graph stays canonical."""
        return check_quantization(model, "executorch", "XNNPACK")

    def build(self, model: ir.Model, directory: Path, text: Text) -> None:
        build(model, directory, text.longest)

    def files(self, directory: Path) -> list[Path]:
        return [p for p in [directory / PROGRAM_FILE] if p.is_file()]

    def options(self, *, regroup: bool) -> dict[str, Any]:
        return {"cut_padding": regroup}

    def open(self, directory: Path, options: dict[str, Any], threads: int | None = None) -> ExecuTorchRunner:
        return ExecuTorchRunner(directory / self.artifact, options, threads)

    def record(self, directory: Path) -> dict[str, Any]:
        return read_json(directory / RECORD_FILE)

    def finish(self, directory: Path, manifest: Manifest) -> None:
        pass


def executorch_target(recipe: Recipe) -> ExecuTorchTarget:
    """Return the target that a recipe describes."""
    return ExecuTorchTarget()


def build(model: ir.Model, directory: Path, longest: int) -> None:
    """Write the program for texts of 1 to `longest` tokens, and a record of its inputs, outputs and undelegated operators.

    Raise TargetError where an operator cannot be lowered, naming the operator, its module and the way out.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    with quiet():
        module, exported = export_module(model, longest, _linear)
        try:
            edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
            undelegated = find_undelegated(edge.exported_program().graph, module.names)
            program = edge.to_executorch()
        except Exception as error:  # the lowering raises many kinds
            raise TargetError(
                f"ExecuTorch cannot lower the model: {reason_of(error, module.names)}; {WAY_OUT}"
            ) from error
    check_kernels(program.executorch_program, undelegated)
    with (directory / PROGRAM_FILE).open("wb") as file:
        program.write_to_file(file)
    record = {
        "inputs": list(module.input_names),
        "outputs": [[str(v.name), sequence_axis(v)] for v in model.graph.outputs],
        "max_length": longest,
        "libraries": {name: version(name) for name in ("executorch", "torchao")},
        "not_delegated": [asdict(x) for x in undelegated],
    }
    (directory / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _linear(product: Any) -> Any:
    from ...graph.torch_module import Linear

    return Linear(product) if product.scale is None else _quantized_linear(product)


def _quantized_linear(product: Any) -> Any:
    """Return an int8 linear layer as the delegate takes it, with the integers and scales of the graph."""
    import torch
    from torch import nn
    from torchao.quantization import IntxUnpackedToInt8Tensor

    class QuantizedLinear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            weight = IntxUnpackedToInt8Tensor(
                qdata=product.weight,
                scale=product.scale,
                zero_point=torch.zeros_like(product.scale, dtype=torch.int8),
                target_dtype=torch.int8,
                block_size=(1, product.weight.shape[1]),
                dtype=torch.float32,
                activation_quantization="int8_asym_per_token",
            )
            self.weight = nn.Parameter(weight, requires_grad=False)
            self.bias = nn.Parameter(product.bias, requires_grad=False) if product.bias is not None else None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.weight, self.bias)

    return QuantizedLinear()


def find_undelegated(graph: Any, names: list[str]) -> list[Undelegated]:
    """Return the operators of an edge graph beside calls of the delegate. `names` are those of the module's steps."""
    modules_of: dict[str, list[str]] = {}
    for node in graph.nodes:
        target = str(node.target)
        if node.op != "call_function" or _DELEGATE in target or any(n in target for n in _NO_WORK):
            continue
        operator = getattr(node.target, "__name__", target)
        modules_of.setdefault(operator, []).append(step_of(node, names))
    return [
        Undelegated(name, len(where), sorted({w for w in where if w})) for name, where in sorted(modules_of.items())
    ]


def check_kernels(program: Any, undelegated: list[Undelegated]) -> None:
    """Raise TargetError where an undelegated operator has no kernel in the runtime."""
    from executorch.runtime import Runtime

    known = set(Runtime.get().operator_registry.operator_names)
    for plan in program.execution_plan:
        for operator in plan.operators:
            name = f"{operator.name}.{operator.overload}" if operator.overload else operator.name
            if name not in known:
                base = operator.name.split("::")[-1]
                where = next((x.modules for x in undelegated if base in x.operator), [])
                raise TargetError(
                    f"{name} ({', '.join(where) or 'module unknown'}) has no kernel in ExecuTorch's runtime; {WAY_OUT}"
                )
