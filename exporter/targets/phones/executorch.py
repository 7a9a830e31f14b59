"""ExecuTorch: a `.pte` program for its XNNPACK delegate, float32, or int8 with the very integers and scales of the graph.

The program takes one text of up to as many tokens as the model does; what other batches hold is run row by row. Products whose
values are rounded by token are the delegate's dynamically quantized ones, which find each token's range as it comes. int8
tables are looked up as they are. Imports torch and executorch where something is built, and nowhere else.
"""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ....errors import TargetError
from ....json_file import read_json
from ....runners.rows import PROGRAM_FILE, RECORD_FILE, ExecuTorchRunner
from ...graph.anatomy import Anatomy
from ...graph.edit import sequence_axis
from ...quiet import quiet
from ..base import TargetSpec, Text
from .torch_export import WAY_OUT, check_rounding, export_module

SPEC = TargetSpec("executorch", neuron_multiple=16, rank_multiple=16, rounds_tokens=True)
"""XNNPACK packs matrices in strips of 8 or 16 columns."""

MISSING = (
    "target executorch needs the packages executorch and torchao, which are not here: pip install 'headway[executorch]'"
)

_DELEGATE = "executorch_call_delegate"
_NO_WORK = ("getitem", "sym_size")


@dataclass(frozen=True)
class Left:
    """An operator that the delegate did not take: its name, how many of it, and the modules they are in."""

    operator: str
    count: int
    modules: list[str]


@dataclass(frozen=True)
class ExecuTorchTarget:
    """This module as a `Target`."""

    spec: TargetSpec = SPEC
    artifact: str = PROGRAM_FILE
    dtype: str = "float32"

    def available(self) -> str | None:
        return None if find_spec("executorch") and find_spec("torchao") else MISSING

    def lower(self, model: ir.Model, anatomy: Anatomy, text: object = None) -> dict[str, int]:
        """Checks that the program will hold every whole number as it is; the graph stays canonical."""
        return check_rounding(model, "executorch", "XNNPACK")

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


def build(model: ir.Model, directory: Path, longest: int) -> None:
    """Writes the program for texts of 1 to `longest` tokens, and a record of what it takes and what the delegate left.

    TargetError where an operator has no place in it, naming the operator, its module and the way out.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    with quiet():
        module, exported = export_module(model, longest, _linear)
        try:
            edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
            found = left_over(edge.exported_program().graph, module.names)
            program = edge.to_executorch()
        except Exception as error:  # the lowering raises many kinds
            raise TargetError(f"ExecuTorch cannot lower the model: {error}; {WAY_OUT}") from error
    check_kernels(program.executorch_program, found)
    with (directory / PROGRAM_FILE).open("wb") as file:
        program.write_to_file(file)
    record = {
        "inputs": list(module.input_names),
        "outputs": [[str(v.name), sequence_axis(v)] for v in model.graph.outputs],
        "max_length": longest,
        "libraries": {name: version(name) for name in ("executorch", "torchao")},
        "not_delegated": [asdict(x) for x in found],
    }
    (directory / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _linear(product: Any) -> Any:
    from ...graph.torch_module import Linear

    return Linear(product) if product.scale is None else _rounded(product)


def _rounded(product: Any) -> Any:
    """A product of whole numbers as the delegate knows it, with the graph's own integers and scales."""
    import torch
    from torch import nn
    from torchao.quantization import IntxUnpackedToInt8Tensor

    class Rounded(nn.Module):
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

    return Rounded()


def left_over(graph: Any, names: list[str]) -> list[Left]:
    """What stands in an edge graph beside calls of the delegate. `names` are those of the module's steps."""
    found: dict[str, list[str]] = {}
    for node in graph.nodes:
        target = str(node.target)
        if node.op != "call_function" or _DELEGATE in target or any(n in target for n in _NO_WORK):
            continue
        operator = getattr(node.target, "__name__", target)
        found.setdefault(operator, []).append(_step_of(node, names))
    return [Left(name, len(where), sorted({w for w in where if w})) for name, where in sorted(found.items())]


def _step_of(node: Any, names: list[str]) -> str:
    """The name of the step that an exported node comes from."""
    for path, _ in reversed(list((node.meta.get("nn_module_stack") or {}).values())):
        parts = str(path).split(".")
        if "steps" in parts:
            return names[int(parts[parts.index("steps") + 1])]
    return ""


def check_kernels(program: Any, found: list[Left]) -> None:
    """Every operator that the delegate left needs a kernel in the runtime."""
    from executorch.runtime import Runtime

    known = set(Runtime.get().operator_registry.operator_names)
    for plan in program.execution_plan:
        for operator in plan.operators:
            name = f"{operator.name}.{operator.overload}" if operator.overload else operator.name
            if name not in known:
                base = operator.name.split("::")[-1]
                where = next((x.modules for x in found if base in x.operator), [])
                raise TargetError(
                    f"{name} ({', '.join(where) or 'module unknown'}) has no kernel in ExecuTorch's runtime; {WAY_OUT}"
                )
