"""Check and export graphs for the targets that read torch, not ONNX: ExecuTorch, LiteRT and Core ML. Torch is imported on export."""

import traceback
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from ....errors import SourceError, TargetError
from ...graph.edit import consumers, nodes, producer
from ...graph.quantized import TOKENS, quantized_weight_of

WAY_OUT = "use --target ort or ort-mobile for this model"
_EXAMPLE = 8


def check_quantization(model: ir.Model, target: str, engine: str) -> dict[str, int]:
    """Count what is quantized. Raise TargetError for the first quantization that the target would not compute as it is."""
    out = (
        f"use --target ort, or quantize the float32 model per token: a quantize pass with `weights: int8` and `activations: per-token` "
        f"({target}'s own)"
    )
    counts = {"attention": len(nodes(model.graph, "Attention")), "int8_products": 0, "int8_tables": 0}
    for node in nodes(model.graph, "QuantizeLinear"):
        raise TargetError(
            f"node {node.name!r}: activations with a static range are not what {engine} takes here; {out}"
        )
    for node in nodes(model.graph, "MatMul"):
        matrix = quantized_weight_of(node)
        if matrix is None:
            continue
        if matrix[0].dtype != ir.DataType.INT8 or "block_size" in producer(node.inputs[1]).attributes:  # type: ignore[union-attr]
            raise TargetError(f"{matrix[0].name}: {matrix[0].dtype} in blocks is not what {engine} takes here; {out}")
        if producer(node.inputs[0], TOKENS) is None:
            raise TargetError(
                f"{matrix[0].name}: int8 weights with float activations are not what {engine} takes here; {out}"
            )
        counts["int8_products"] += 1
    half = next((v for v in model.graph.initializers.values() if v.dtype == ir.DataType.FLOAT16), None)
    if half is not None:
        raise TargetError(
            f"{half.name}: stored as float16, which target {target} would store as float32; leave the float16 pass out"
        )
    counts["int8_tables"] = sum(
        v.dtype == ir.DataType.INT8 and any(n.op_type == "Gather" for n in consumers(v))
        for v in model.graph.initializers.values()
    )
    return {k: n for k, n in counts.items() if n}


def export_module(model: ir.Model, longest: int, linear: Any = None) -> tuple[Any, Any]:
    """Return the torch module of a canonical model, and its `torch.export` for one text of 1 to `longest` tokens.

    `linear` as in `TorchModule`. Raise TargetError where the model has no such module, or cannot be traced at every length.
    """
    import torch

    from ...graph.torch_module import Linear, TorchModule

    for node in nodes(model.graph, "LSTM"):
        if len(node.inputs) > 4 and node.inputs[4] is not None:
            raise TargetError(
                f"node {node.name!r}: torch.export cannot trace an LSTM that reads the lengths of texts; {WAY_OUT}"
            )
    try:
        module = TorchModule(model, linear or Linear)
    except SourceError as error:
        raise TargetError(f"{error}; {WAY_OUT}") from error
    example = tuple(torch.ones((1, min(_EXAMPLE, longest)), dtype=torch.int64) for _ in module.input_names)
    # Where a model looks at neighboring tokens, the tracer treats a few short lengths as special cases. The program computes them
    # nevertheless, which the check with one token shows.
    for least in (1, 3, 4):
        sequence = torch.export.Dim("sequence", min=least, max=longest)
        try:
            return module, torch.export.export(module, example, dynamic_shapes=(tuple({1: sequence} for _ in example),))
        except Exception as error:  # torch.export raises many kinds
            problem = error
    raise TargetError(
        f"torch.export cannot trace the model at every length: {reason_of(problem, module.names)}; {WAY_OUT}"
    ) from problem


def reason_of(error: BaseException, names: Sequence[str] = ()) -> str:
    """Return what an error says in one line; where it says nothing, its type, what is behind it, and the operator that it stopped at.

    `names` are those of the module's steps, by which the operator's place is named.
    """
    cause: BaseException | None = error
    while cause is not None:
        said = " ".join(str(cause).split())
        if said and cause is error:
            return said
        if said:
            return f"{type(error).__name__}{_place_of(error, names)}, from {type(cause).__name__}: {said}"
        cause = cause.__cause__ or cause.__context__
    return f"{type(error).__name__}{_place_of(error, names)}"


def _place_of(error: BaseException, names: Sequence[str]) -> str:
    """Return the operator that the code was at when an error rose, else the function; "" where it never rose."""
    import torch

    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        for value in frame.f_locals.values():
            if isinstance(value, torch.fx.Node) and value.op == "call_function":
                step = step_of(value, names)
                return f" at {getattr(value.target, '__name__', value.target)}{f' ({step})' if step else ''}"
    return f" in {frames[-1].f_code.co_name}" if frames else ""


def step_of(node: Any, names: Sequence[str]) -> str:
    """Return the name of the step that an exported node comes from, "" where it comes from none."""
    for path, _ in reversed(list((node.meta.get("nn_module_stack") or {}).values())):
        parts = str(path).split(".")
        if "steps" in parts:
            index = int(parts[parts.index("steps") + 1])
            return names[index] if index < len(names) else ""
    return ""
