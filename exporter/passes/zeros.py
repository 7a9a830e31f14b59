"""Cut away what is wholly zero, which changes no answer, and say what other zeros a model has.

Pruning leaves zeros in weights of the old sizes. Heads, neurons and ranks that are zero as a whole cost time for nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...errors import UsageError
from ..graph.anatomy import Anatomy, AttentionPart, FeedForward, Projection, read_anatomy
from ..graph.edit import bias_of, constant, consumers, nodes
from .base import StructuralPass
from .cuts import Cuts
from .heads import RemoveHeads
from .neurons import RemoveNeurons, nodes_between

_ZERO_AT_ZERO = ("Gelu", "Relu", "Tanh", "Swish", "Mish", "Elu", "LeakyRelu", "HardSwish")
"""Activations that give 0 for 0."""

_WORTH_SAYING = 0.05
_NEAR = 1e-6
"""Weights below this part of the largest of their matrix count as near zero."""


@dataclass
class CutZeros(StructuralPass):
    """Remove heads, neurons and ranks that add exactly nothing, whatever the text.

    A neuron adds nothing where its column in the second matmul's weight is zero, or its column and bias in the first's, if the
    activation keeps 0. A head adds nothing where the output projection does not read it, or its values are zero, bias included.
    """

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        neurons, heads, ranks = _dead(anatomy)
        changes = RemoveNeurons(neurons).edit(model, anatomy) if neurons else {}
        for where, what in (RemoveHeads(heads).edit(model, anatomy) if heads else {}).items():
            changes[where] = f"{what}, {changes[where]}" if where in changes else what
        return changes | _cut_ranks(ranks)


def cut_zeros(model: ir.Model) -> tuple[ir.Model, tuple[str, ...]]:
    """Return the model without what is wholly zero, and a sentence for that and one for the zeros that stay.

    The model itself is returned, untouched, where nothing is cut: also where weights are shared in a way that does not allow it.
    """
    anatomy = read_anatomy(model)
    if not anatomy.blocks:
        return model, ()
    cut: tuple[str, ...] = ()
    if any(_dead(anatomy)):
        smaller = model.clone()
        try:
            step = CutZeros()
            step(smaller)
        except UsageError:
            smaller = model
        else:
            if step.report is not None and step.report.changes:
                listed = "; ".join(f"{where}: {what}" for where, what in step.report.changes.items())
                model, cut = smaller, (f"wholly zero, and cut away: {listed}",)
                anatomy = read_anatomy(model)
    return model, (*cut, *zeros_left(anatomy))


def _dead(
    anatomy: Anatomy,
) -> tuple[dict[tuple[int, int], list[int]], dict[int, list[int]], list[tuple[Projection, np.ndarray]]]:
    """Return the neurons, heads and ranks to keep where some of a part are dead, by what the passes call the parts."""
    neurons = {
        (block.index, number): np.flatnonzero(~dead).tolist()
        for block in anatomy.blocks
        for number, forward in enumerate(block.feed_forwards)
        if (dead := dead_neurons(forward)).any()
    }
    heads = {
        block.index: np.flatnonzero(~dead).tolist()
        for block in anatomy.blocks
        if block.attention is not None and (dead := dead_heads(block.attention)).any()
    }
    return neurons, heads, _dead_ranks(p for block in anatomy.blocks for p in block.projections)


def dead_heads(part: AttentionPart) -> np.ndarray:
    """Return for each head whether it adds nothing, bool `[heads]`."""
    read = _zero_rows(part.o)
    if part.heads != part.kv_heads or len(read) != part.heads * part.head_dim:
        return np.zeros(part.heads, bool)
    dead = np.asarray(read.reshape(part.heads, -1).all(1))
    if not part.merged:
        given = _zero_columns(part.v)
        if len(given) == len(read):
            dead |= given.reshape(part.heads, -1).all(1)
    return dead


def dead_neurons(forward: FeedForward) -> np.ndarray:
    """Return for each neuron whether it adds nothing, bool `[width]`."""
    dead = _zero_rows(forward.down)
    if len(dead) != forward.width:
        return np.zeros(forward.width, bool)
    between = [n.op_type for n in nodes_between(forward)]
    plain = {forward.activation, "Split", "Mul", "Add"} if forward.gated else {forward.activation, "Add"}
    own_biases = sum(p.bias is not None for p in forward.before)
    if set(between) <= plain and between.count("Add") <= own_biases:
        keeps_zero = forward.activation in _ZERO_AT_ZERO
        given = _zero_columns(forward.up)
        if forward.factor is not None:
            factor = _zero_columns(forward.factor)
            dead |= factor if len(factor) == forward.width else False
        if keeps_zero and forward.gated and len(given) == 2 * forward.width:
            dead |= given[: forward.width] | given[forward.width :]
        elif keeps_zero and len(given) == forward.width:
            dead |= given
    return dead


def _zero_rows(projection: Projection) -> np.ndarray:
    """Return for each input feature whether the projection does not read it."""
    return _zeros_of((projection.first or projection.node).inputs[1], axis=1)


def _zero_columns(projection: Projection) -> np.ndarray:
    """Return for each output feature whether it is 0 whatever the input, bias included."""
    zero = _zeros_of(projection.node.inputs[1], axis=0)
    bias = constant(bias_of(projection.bias))
    return zero & (bias == 0) if bias is not None and bias.shape == zero.shape else zero


def _zeros_of(weight: ir.Value | None, axis: int) -> np.ndarray:
    array = _matrix(weight)
    return np.asarray(~array.any(axis=axis)) if array is not None else np.zeros(0, bool)


def _matrix(weight: ir.Value | None) -> np.ndarray | None:
    """Return a weight of two axes and floating type; None for one that is computed, quantized, or of another kind."""
    if weight is None or not weight.is_initializer():
        return None
    array = constant(weight)
    return array if array is not None and array.ndim == 2 and array.dtype.kind == "f" and array.size else None


def _dead_ranks(projections: Iterable[Projection]) -> list[tuple[Projection, np.ndarray]]:
    """Return the factored projections that have ranks of zeros, and the ranks to keep: at least one."""
    found = []
    for projection in projections:
        if projection.first is None or projection.rank is None:
            continue
        first, second = _zeros_of(projection.first.inputs[1], axis=0), _zeros_of(projection.node.inputs[1], axis=1)
        if len(first) == len(second) == projection.rank:
            kept = np.flatnonzero(~(first | second))
            kept = kept if len(kept) else np.zeros(1, np.int64)
            if len(kept) < projection.rank:
                found.append((projection, kept))
    return found


def _cut_ranks(ranks: list[tuple[Projection, np.ndarray]]) -> dict[str, str]:
    cuts, changes = Cuts(), {}
    for projection, kept in ranks:
        assert projection.first is not None
        inner = projection.first.inputs[1], projection.node.inputs[1]
        if any(v is None or len(consumers(v)) > 1 for v in inner) or projection.first.graph is None:
            continue
        cuts.columns(projection.first, kept)
        cuts.kept_rows(projection.node, kept)
        changes[projection.weight] = f"rank {projection.rank} → {len(kept)}"
    cuts.apply()
    return changes


def zeros_left(anatomy: Anatomy) -> tuple[str, ...]:
    """Return what there is to say of zeros and near zeros in the blocks' weights; nothing where they are few."""
    weights = {
        str(v.name): array
        for block in anatomy.blocks
        for projection in block.projections
        for node in projection.nodes
        if (v := node.inputs[1]) is not None and (array := _matrix(v)) is not None
    }
    total = sum(array.size for array in weights.values())
    if not total:
        return ()
    counts = [_count(array) for array in weights.values()]
    zeros, near = (sum(c[i] for c in counts) / total for i in range(2))
    sentences = []
    if zeros >= _WORTH_SAYING:
        patterned = [name for name, array in weights.items() if is_two_of_four(array)]
        pattern = (
            f"at most two of four along the inputs in {len(patterned)} of {len(weights)} weights, which TensorRT's sparse kernels use"
            if patterned
            else "unstructured: smaller at rest, not faster"
        )
        sentences.append(f"{zeros:.0%} zeros, {pattern}".replace("%", " %"))
    if near >= _WORTH_SAYING:
        share = f"{near:.0%}".replace("%", " %")
        sentences.append(
            f"{share} of the weights are not zero, but below {_NEAR:g} of the largest of their weight matrix: kept as they are, which "
            "costs size, not quality"
        )
    return tuple(sentences)


def _count(array: np.ndarray) -> tuple[int, int]:
    """Return how many weights are zero, and how many near zero but not zero."""
    zeros = array.size - int(np.count_nonzero(array))
    size = np.abs(array)
    return zeros, int(np.count_nonzero(size < _NEAR * size.max())) - zeros if size.max() else 0


def any_two_of_four(model: ir.Model) -> bool:
    """Return whether a MatMul's weight has at most two non-zeros in each four inputs, in any floating type."""
    weights = {n.inputs[1] for n in nodes(model.graph, "MatMul") if n.inputs[1] is not None}
    arrays = (constant(w) for w in weights if w.is_initializer())
    return any(a is not None and a.ndim == 2 and a.dtype.kind in "fV" and is_two_of_four(a) for a in arrays)


def is_two_of_four(weight: np.ndarray) -> bool:
    """Return whether in each four adjacent inputs of each output of `weight [in, out]` at most two weights are not zero."""
    if len(weight) % 4 or np.count_nonzero(weight) > weight.size / 2:
        return False
    return bool((np.count_nonzero(weight.reshape(-1, 4, weight.shape[1]), axis=1) <= 2).all())
