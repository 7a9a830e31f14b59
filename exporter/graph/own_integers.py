"""Hold the integers that a checkpoint came with: where the canonical graph has a weight unchanged, it gets them back code by code.

A checkpoint's weights are captured as floats. Those that the canonical form merged, scaled or shares with other readers stay so,
and so do those whose integers the target cannot hold: float32 holds every one of them exactly.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from ...calibration.rounding import QuantizedMatrix
from .edit import constant, consumers
from .quantized import is_lookup, quantize_embedding, quantize_weight

_STORED = ((4, -8, 7), (8, -128, 127))
"""Bits, least and largest integer of the types that a graph holds."""

_OFFSETS = (0, 8, 128)
_BLOCKS = (128, 64, 32, 16)


@dataclass
class Held:
    """Names of weights whose integers the graph holds, with their storage; why others are floats; and which the graph lacks."""

    stored: dict[str, str] = field(default_factory=dict)
    as_floats: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        """Return what was held and what was not, each reason with the first weight that it is for."""
        total = len(self.stored) + len(self.as_floats)
        kinds = ", ".join(f"{n} as {kind}" for kind, n in sorted(Counter(self.stored.values()).items()))
        said = f"the artifact holds the integers of {len(self.stored)} of {total} quantized weights" + (
            f" ({kinds})" if kinds else ""
        )
        for reason, count in Counter(self.as_floats.values()).items():
            name = next(n for n, r in self.as_floats.items() if r == reason)
            said += f"; {count} as float32, which holds their values exactly ({name}: {reason})"
        if self.absent:
            said += (
                f"; {len(self.absent)} not found in it under their names ({self.absent[0]}): floats there, or left out"
            )
        return said


def hold_integers(
    model: ir.Model,
    weights: Mapping[str, Callable[[], Any]],
    *,
    allowed: Literal["any", "symmetric", "none"],
    embeddings: bool = True,
) -> Held:
    """Put integers in the place of floats, in place. `weights`: functions that return an `IntegerWeight`, by names in the source.

    `allowed` and `embeddings` are what the target can store, see `TargetSpec`.
    """
    graph = model.graph
    held = Held()
    floats = _floats(graph)
    places = {
        name: sorted((v for v in floats if _same(name, str(v.name))), key=lambda v: v.name != name) for name in weights
    }
    for name, read in weights.items():
        found = places[name]
        if not found:
            held.absent.append(name)
            continue
        if allowed == "none":
            held.as_floats[name] = "the target stores no integers beside float activations"
            continue
        kind, reason = _hold(graph, found[0], read(), allowed, embeddings)
        if kind is None:
            held.as_floats[name] = reason
        else:
            held.stored[name] = kind
    return held


def _floats(graph: ir.Graph) -> list[ir.Value]:
    return [v for v in graph.initializers.values() if v.dtype == ir.DataType.FLOAT and len(v.shape or ()) == 2]


def _same(name: str, other: str) -> bool:
    """Return whether two names are the same but for a prefix, as a base model's names are within a model with a head."""
    return name == other or name.endswith(f".{other}") or other.endswith(f".{name}")


def _hold(graph: ir.Graph, value: ir.Value, weight: Any, allowed: str, embeddings: bool) -> tuple[str | None, str]:
    """Store one weight; return its storage, or None with the reason."""
    readers = consumers(value)
    array = constant(value)
    if readers and all(is_lookup(n, value) for n in readers):
        if not embeddings or weight.scale.shape[1] != 1 or weight.zero is not None:
            return None, "the target stores such embeddings as floats"
        return _hold_rows(graph, value, weight)
    if not readers or any(n.op_type != "MatMul" or n.inputs[1] is not value for n in readers):
        return None, "not only matmuls read it"
    matrix, reason = stored_matrix(weight)
    if matrix is None:
        return None, reason
    if array is None or array.shape != matrix.q.shape or not np.array_equal(matrix.dequantized(), array):
        return None, "the canonical graph has it in another form"
    if allowed == "symmetric":
        if matrix.zero is not None:
            return None, "the target takes no zero points"
        if not (matrix.scale > 0).all():
            return None, "the target takes scales above 0 alone"
        if matrix.bits == 8 and matrix.block is not None:
            return None, "the target takes no blocks of 8-bit integers"
    quantize_weight(graph, value, matrix)
    return f"int{matrix.bits}" + (f" in blocks of {matrix.block}" if matrix.block else ""), ""


def _hold_rows(graph: ir.Graph, value: ir.Value, weight: Any) -> tuple[str | None, str]:
    codes, scale = weight.codes.numpy(), weight.scale.numpy().astype(np.float32)
    array = constant(value)
    if codes.min(initial=0) < -128 or codes.max(initial=0) > 127:
        return None, "its integers do not fit 8 bits around zero"
    if array is None or array.shape != codes.shape or not np.array_equal(codes.astype(np.float32) * scale, array):
        return None, "the canonical graph has it in another form"
    rows = np.ascontiguousarray(np.broadcast_to(scale, (len(codes), 1)))
    quantize_embedding(graph, value, codes.astype(np.int8), rows)
    return "int8 rows", ""


def stored_matrix(weight: Any) -> tuple[QuantizedMatrix | None, str]:
    """Return an `IntegerWeight` as the canonical graph stores it, `[in, out]`; None where its types cannot, with the reason.

    Codes of up to 4 bits are int4 in blocks, others int8. All codes and zero points may be shifted by one number, which changes no
    difference between them.
    """
    if weight.order is not None:
        return None, "its groups are not of consecutive inputs"
    codes = weight.codes.numpy().astype(np.int32).T
    scale = np.ascontiguousarray(weight.scale.numpy().astype(np.float32).T)
    zero = weight.zero.numpy().T if weight.zero is not None else np.zeros_like(scale)
    zero = np.broadcast_to(zero, scale.shape)
    whole = np.rint(zero).astype(np.int32)
    if (whole != zero).any():
        return None, "its zero points are fractions"
    scale, whole = _blocked(scale, whole, len(codes), weight.bits)
    first = int(whole.flat[0])
    plain = bool((whole == first).all())
    for bits, low, high in _STORED:
        if weight.bits > bits or (bits == 4 and scale.ndim == 1):
            continue
        shifts = [(first, True)] if plain else []
        for offset, without_zero in (*shifts, *((o, False) for o in _OFFSETS)):
            shifted, zeros = codes - offset, whole - offset
            if low <= min(shifted.min(), zeros.min()) and max(shifted.max(), zeros.max()) <= high:
                kept = None if without_zero else np.ascontiguousarray(zeros.astype(np.int8))
                return QuantizedMatrix(np.ascontiguousarray(shifted.astype(np.int8)), scale, bits, kept), ""
    return None, "its integers do not fit 8 bits"


def _blocked(scale: np.ndarray, zero: np.ndarray, rows: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one scale for all inputs as a vector; repeated for blocks of inputs, where codes of 4 bits are stored in such."""
    if len(scale) > 1:
        return scale, zero
    block = next((b for b in _BLOCKS if rows % b == 0), None) if bits <= 4 else None
    if block is None:
        return scale[0], zero[0]
    return np.repeat(scale, rows // block, axis=0), np.repeat(zero, rows // block, axis=0)
