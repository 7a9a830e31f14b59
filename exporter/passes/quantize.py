"""Quantize the canonical graph. The integers and scales were chosen before (`calibration.rounding`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...calibration.rounding import QuantizedMatrix
from ...errors import UsageError
from ..graph.anatomy import Anatomy, AttentionPart, Projection
from ..graph.edit import bias_add, bias_of, cast_back, constant, consumers, first_of, initializer, insert
from ..graph.quantized import (
    DOMAIN,
    TOKENS,
    fixed_scale,
    is_lookup,
    is_recurrent,
    quantize_embedding,
    quantize_recurrent,
    quantize_weight,
    quantized_weight_of,
    round_fixed,
    tokens_function,
)
from .base import StructuralPass
from .cuts import set_array

PER_TOKEN = "per token"
"""In place of a range: each token has its own, computed at run time."""


@dataclass
class QuantizeWeights(StructuralPass):
    """Hold each weight named as int8 (or int4) with its scales; `shifts [out]` are added to the biases after the matmuls.

    The result is weight-only: the matmuls' inputs stay float until `QuantizeActivations`.
    """

    matrices: Mapping[str, QuantizedMatrix]
    shifts: Mapping[str, np.ndarray] = field(default_factory=dict)

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        graph = model.graph
        for name in self.matrices:
            weight = _float_weight(graph, name)
            other = next((n for n in consumers(weight) if n.op_type != "MatMul" or n.inputs[1] is not weight), None)
            if other is not None:
                raise UsageError(
                    f"{name}: node {other.name!r} ({other.op_type}) reads it too; only weights that matmuls alone read can be quantized"
                )
        for name, matrix in self.matrices.items():
            weight = graph.initializers[name]
            readers = consumers(weight)
            if name in self.shifts:
                for reader in readers:
                    _shift_bias(reader, self.shifts[name])
            quantize_weight(graph, weight, matrix)
        return {n: f"int{m.bits}" + (f", blocks of {m.block}" if m.block else "") for n, m in self.matrices.items()}


@dataclass
class QuantizeEmbeddings(StructuralPass):
    """Hold each embedding named as int8 rows with one scale per row; the rows that are looked up become float again."""

    names: tuple[str, ...]

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        graph = model.graph
        for name in self.names:
            embedding = _float_weight(graph, name)
            other = next((n for n in consumers(embedding) if not is_lookup(n, embedding)), None)
            if other is not None:
                raise UsageError(
                    f"{name}: node {other.name!r} ({other.op_type}) reads it too; only embeddings that lookups alone read can be quantized"
                )
        changes = {}
        for name in self.names:
            embedding = graph.initializers[name]
            quantize_embedding(graph, embedding, *_rows(embedding))
            changes[name] = "int8 rows"
        return changes


@dataclass
class QuantizeRecurrent(StructuralPass):
    """Hold each weight of recurrent layers named as int8 with one scale per row. The layers compute with floats.

    ONNX Runtime's `DynamicQuantizeLSTM` is not for them: it gives a whole batch one range, so that a text's answer depends on the
    other texts of its batch, and its sums saturate on x86 without VNNI.
    """

    names: tuple[str, ...]

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        graph = model.graph
        for name in self.names:
            weight = _float_weight(graph, name, rank=3)
            other = next((n for n in consumers(weight) if not is_recurrent(n, weight)), None)
            if other is not None:
                raise UsageError(
                    f"{name}: node {other.name!r} ({other.op_type}) reads it too; only weights that LSTMs alone read can be quantized"
                )
        for name in self.names:
            quantize_recurrent(graph, graph.initializers[name], *_rows(graph.initializers[name]))
        return dict.fromkeys(self.names, "int8 rows, computed in floats")


@dataclass
class QuantizeActivations(StructuralPass):
    """Quantize each activation named where matmuls by quantized weights read it, to its range or `PER_TOKEN`.

    `signed`: int8 with zero point 0, for targets that require it; else uint8 with a zero point, which uses all of a
    one-sided range. UsageError for an activation that no such matmul reads.
    """

    ranges: Mapping[str, tuple[float, float] | str]
    signed: bool = False

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        graph = model.graph
        values = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
        readers = {}
        for name in self.ranges:
            value = values.get(name)
            readers[name] = [n for n in consumers(value) if quantized_weight_of(n)] if value is not None else []
            if not readers[name]:
                raise UsageError(f"{name}: no matmul by a quantized weight reads this activation")
        changes = {}
        for name, given in self.ranges.items():
            first = first_of(graph, readers[name])
            rounded = (
                _per_token(model, first, values[name])
                if isinstance(given, str)
                else round_fixed(graph, first, values[name], *fixed_scale(*given, signed=self.signed))
            )
            for node in readers[name]:
                node.replace_input_with(0, rounded)
            changes[name] = PER_TOKEN if isinstance(given, str) else f"{given[0]:.3g} to {given[1]:.3g}"
        return changes


@dataclass
class MigrateScales(StructuralPass):
    """Divide the channels of each activation named and multiply the rows of the weights it meets: the results stay the same.

    `divisors [channels]` by activation name. An attention's result is divided in the value projection, which costs nothing;
    other activations are divided where the matmuls read them. The residual, which reads the same activations, is left as it
    is, so that the result is exact for norms after the residual too. Source: SmoothQuant (arXiv 2211.10438).
    """

    divisors: Mapping[str, np.ndarray]

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        graph = model.graph
        changes = {}
        inputs = {str(p.input.name): p.input for b in anatomy.blocks for p in b.projections}
        unknown = next((n for n in self.divisors if n not in inputs), None)
        if unknown is not None:
            raise UsageError(f"{unknown}: no projection reads this value")
        folded = {
            str(b.attention.o.input.name): b.attention.v
            for b in anatomy.blocks
            if b.attention and _own_columns(b.attention)
        }
        for name, given in self.divisors.items():
            divisor = given.astype(np.float32)
            readers = [n for n in consumers(inputs[name]) if n.op_type == "MatMul" and n.inputs[1] is not None]
            weights = {v: None for n in readers if (v := n.inputs[1]) is not None and v.is_initializer()}
            shared = next((w for w in weights if any(n not in readers for n in consumers(w))), None)
            if not weights or shared is not None:
                continue
            for weight in weights:
                array = constant(weight)
                assert array is not None
                set_array(weight, np.ascontiguousarray(array * divisor[:, None]))
            if name in folded and _divide_columns(folded[name], divisor):
                changes[name] = "divided in the value projection"
                continue
            factor = initializer(graph, f"{name}.divisor", (1 / divisor).astype(np.float32))
            divided = insert(
                first_of(graph, readers),
                "Mul",
                [inputs[name], factor],
                name=f"{name}.divided",
                dtype=inputs[name].dtype,
                shape=inputs[name].shape,
            )
            for node in readers:
                node.replace_input_with(0, divided)
            changes[name] = f"channels divided by {divisor.min():.2g} to {divisor.max():.2g}"
        return changes


@dataclass
class StoreHalf(StructuralPass):
    """Store every float32 weight and embedding as float16 and cast it back where it is read: half the bytes, float32 arithmetic.

    Of an embedding, the rows that were looked up are cast. A weight beyond float16's range (65,504) is refused by name.
    """

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        graph = model.graph
        chosen = {n: v for n, v in graph.initializers.items() if v.dtype == ir.DataType.FLOAT and _is_weight(v)}
        for name, value in chosen.items():
            array = constant(value)
            if array is not None and np.abs(array).max(initial=0) > np.finfo(np.float16).max:
                raise UsageError(f"{name}: {np.abs(array).max():.3g} is beyond float16; leave this model in float32")
        for value in chosen.values():
            readers = consumers(value)
            array = constant(value)
            assert array is not None
            set_array(value, array.astype(np.float16))
            value.type = ir.TensorType(ir.DataType.FLOAT16)
            for reader in readers:
                if is_lookup(reader, value):
                    rows = reader.outputs[0]
                    cast_back(graph, rows, consumers(rows), f"{rows.name}.float")
                    rows.type = ir.TensorType(ir.DataType.FLOAT16)
                else:
                    cast_back(graph, value, [reader], f"{reader.name}.{value.name}.float")
        return dict.fromkeys(chosen, "float16")


def _is_weight(value: ir.Value) -> bool:
    """Return True for a matrix, and for the weights of LSTMs, which have a matrix for each direction."""
    rank = len(value.shape or ())
    return rank == 2 or (rank == 3 and all(is_recurrent(n, value) for n in consumers(value)))


def _rows(weight: ir.Value) -> tuple[np.ndarray, np.ndarray]:
    """Return a weight rounded to int8 along its last axis, and its scales with 1 in the place of that axis."""
    array = constant(weight)
    assert array is not None
    top = np.abs(array).max(axis=-1, keepdims=True)
    scale = (np.where(top > 0, top, 1.0) / 127).astype(np.float32)
    return np.rint(array / scale).astype(np.int8), scale


def _float_weight(graph: ir.Graph, name: str, rank: int = 2) -> ir.Value:
    weight = graph.initializers.get(name)
    if weight is None or len(weight.shape or ()) != rank:
        raise UsageError(f"{name}: there is no such weight matrix")
    if weight.dtype != ir.DataType.FLOAT:
        raise UsageError(f"{name}: is {weight.dtype} already; quantize a float32 weight")
    return weight


def _shift_bias(matmul: ir.Node, shift: np.ndarray) -> None:
    """Add to the bias after a matmul, if it has one; a bias that other matmuls read too is left as it is."""
    bias = bias_of(bias_add(matmul))
    array = constant(bias)
    if bias is not None and array is not None and len(consumers(bias)) == 1:
        set_array(bias, array + shift)


def _per_token(model: ir.Model, before: ir.Node, value: ir.Value) -> ir.Value:
    function = tokens_function()
    model.functions.setdefault(function.identifier(), function)
    model.graph.opset_imports.setdefault(DOMAIN, 1)
    return insert(
        before, TOKENS, [value], name=f"{value.name}.rounded", domain=DOMAIN, dtype=value.dtype, shape=value.shape
    )


def _own_columns(attention: AttentionPart) -> bool:
    """Return True where each column of the value projection feeds one column of the result: no shared keys, nothing merged."""
    return attention.heads == attention.kv_heads and not attention.merged and not attention.disentangled


def _divide_columns(projection: Projection, divisor: np.ndarray) -> bool:
    """Divide a projection's outputs, bias included; return False where its weight or bias has other readers."""
    weight = projection.node.inputs[1]
    bias = bias_of(projection.bias)
    if weight is None or not weight.is_initializer() or len(consumers(weight)) != 1:
        return False
    if bias is not None and len(consumers(bias)) != 1:
        return False
    for value in (weight, bias):
        array = constant(value)
        if value is not None and array is not None:
            set_array(value, np.ascontiguousarray(array / divisor))
    return True
