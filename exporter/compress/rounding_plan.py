"""Plan the quantization of a model's weights, embeddings and activations, and carry it out. Imports torch.

One pass over the text observes all activations that a projection reads: ranges per channel, second moments, means. Four things follow
from them: the migration of scales between activations and the weights behind them, the rounding of each weight matrix, the
correction of its bias, and for targets that need static ranges the range of each activation.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...calibration.batches import Batch
from ...calibration.observe import Observation, Observations, observe
from ...calibration.rounding import QuantizedMatrix, bias_shift, gptq, migration, migration_per_token, nearest
from ...errors import UsageError
from ..graph.anatomy import Anatomy, Projection, read_anatomy
from ..graph.edit import constant, consumers, nodes
from ..graph.quantized import is_quantized, is_recurrent
from ..passes.base import StructuralPass
from ..passes.quantize import (
    PER_TOKEN,
    MigrateScales,
    QuantizeActivations,
    QuantizeEmbeddings,
    QuantizeRecurrent,
    QuantizeWeights,
)
from ..recipe.pass_specs import QuantizeSpec

_SMALL_TABLE = 1 << 16
"""Embeddings of fewer weights (token types) stay float: so few bytes are not worth a rounding error."""


@dataclass(frozen=True)
class Group:
    """Weights that are quantized together or not at all: the smallest choice of the search.

    `matrices` are their names, `values` the names of the activations that they read, `cost` their multiply-adds per token.
    """

    name: str
    block: int
    matrices: tuple[str, ...]
    values: tuple[str, ...]
    cost: int


def groups(anatomy: Anatomy) -> list[Group]:
    """Return the groups of each block: queries, keys and values; attention's output; both sides of each feed-forward."""
    all_groups = []
    for block in anatomy.blocks:
        parts: dict[str, list[Projection]] = {}
        if block.attention is not None:
            a = block.attention
            parts["query, key, value"] = list({p.node: p for p in (a.q, a.k, a.v)}.values())
            parts["attention output"] = [a.o]
        for number, forward in enumerate(block.feed_forwards):
            behind = f" {number}" if number else ""
            parts[f"feed-forward in{behind}"] = list(forward.before)
            parts[f"feed-forward out{behind}"] = [forward.down]
        taken = {p.node for ps in parts.values() for p in ps}
        other = [p for p in block.projections if p.node not in taken]
        if other:
            parts["other projections"] = other
        for kind, projections in parts.items():
            nodes = [n for p in projections for n in p.nodes]
            names = tuple(dict.fromkeys(str(n.inputs[1].name) for n in nodes if n.inputs[1] is not None))
            values = tuple(dict.fromkeys(str(n.inputs[0].name) for n in nodes if n.inputs[0] is not None))
            cost = sum(p.multiplications for p in projections)
            all_groups.append(Group(f"block {block.index} {kind}", block.index, names, values, cost))
    return all_groups


@dataclass
class RoundingPlan:
    """What will be quantized: groups of weights, `tables` (embeddings) and `recurrent` (weights of LSTMs), which are int8 always.

    `left`: what stays float, with the reason.
    """

    groups: list[Group]
    tables: tuple[str, ...]
    left: dict[str, str] = field(default_factory=dict)
    recurrent: tuple[str, ...] = ()

    def in_rows(self) -> list[StructuralPass]:
        """Return the passes that hold embeddings and weights of LSTMs as int8 rows, for which nothing has to be observed."""
        return [
            *([QuantizeEmbeddings(self.tables)] if self.tables else []),
            *([QuantizeRecurrent(self.recurrent)] if self.recurrent else []),
        ]


def plan(
    model: ir.Model,
    anatomy: Anatomy,
    spec: QuantizeSpec,
    *,
    int8_tables: bool = True,
    int8_recurrent: bool = False,
) -> RoundingPlan:
    """Return a plan for all weights of the blocks and all large embeddings, but what the recipe keeps or what cannot be quantized.

    Embeddings stay float where the target cannot look them up in int8 (`TargetSpec.int8_embeddings`), and so do weights of LSTMs
    (`TargetSpec.int8_recurrent`). Raises UsageError where the model is quantized already, or where the recipe keeps what is not there.
    """
    if is_quantized(model):
        raise UsageError("the model is quantized already: headway export keeps its own integers and scales")
    for name in spec.keep:
        if not any(_covers(name, n) for n in model.graph.initializers):
            raise UsageError(f"quantize: keep: there is no module or weight {name!r} in the model")
    left: dict[str, str] = {}
    chosen = []
    for group in groups(anatomy):
        reason = _obstacle(model, group, spec)
        if reason is None:
            chosen.append(group)
        else:
            left |= dict.fromkeys(group.matrices, reason)
    tables = []
    for name, shape in anatomy.embeddings.items():
        table = model.graph.initializers[name]
        if any(n.op_type != "Gather" or n.inputs[0] is not table for n in consumers(table)):
            left[name] = "also read by something other than lookups"
        elif int(np.prod(shape)) < _SMALL_TABLE:
            left[name] = "too small to matter"
        elif _kept(name, spec):
            left[name] = "kept in float by the recipe"
        elif not int8_tables:
            left[name] = "the target looks embeddings up in float"
        elif spec.tables:
            tables.append(name)
    left |= {p.weight: "outside the blocks" for p in (*anatomy.before, *anatomy.head)}
    recurrent = {name: _recurrent_obstacle(model, name, spec, int8_recurrent) for name in _of_lstms(model)}
    left |= {name: reason for name, reason in recurrent.items() if reason is not None}
    return RoundingPlan(chosen, tuple(tables), left, tuple(n for n, reason in recurrent.items() if reason is None))


def _of_lstms(model: ir.Model) -> list[str]:
    """Return the names of the weights of LSTMs, each once."""
    read = [value for node in nodes(model.graph, "LSTM") for value in node.inputs[1:3]]
    return list(dict.fromkeys(str(v.name) for v in read if v is not None and v.is_initializer()))


def _recurrent_obstacle(model: ir.Model, name: str, spec: QuantizeSpec, allowed: bool) -> str | None:
    weight = model.graph.initializers[name]
    if _kept(name, spec):
        return "kept in float by the recipe"
    if any(not is_recurrent(n, weight) for n in consumers(weight)):
        return "also read by something other than LSTMs"
    return None if allowed else "the target would dequantize the weights of LSTMs in every run"


def _kept(name: str, spec: QuantizeSpec) -> bool:
    return any(_covers(k, name) for k in spec.keep)


def _covers(named: str, name: str) -> bool:
    """Tell whether a weight is what a recipe names, or belongs to the module that it names."""
    return name == named or name.startswith(f"{named}.")


def _obstacle(model: ir.Model, group: Group, spec: QuantizeSpec) -> str | None:
    for name in group.matrices:
        weight = model.graph.initializers.get(name)
        if weight is None:
            return "transposed or computed at run time"
        if _kept(name, spec):
            return "kept in float by the recipe"
        if any(n.op_type != "MatMul" or n.inputs[1] is not weight for n in consumers(weight)):
            return "also read by something other than matmuls"
    return None


def look(
    model: ir.Model,
    chosen: Sequence[Group],
    batches: Iterable[Batch],
    *,
    source: str,
    text: str,
    seed: int,
    histograms: bool = True,
    on_batch: Callable[[], None] = lambda: None,
) -> Observations:
    """Observe all activations that the groups' weights read, with their second moments. `histograms`: see `needs_histograms`."""
    values = values_of(chosen)
    return observe(
        model,
        batches,
        values,
        moments=values,
        histograms=histograms,
        source=source,
        text=text,
        seed=seed,
        on_batch=on_batch,
    )


def values_of(chosen: Sequence[Group]) -> list[str]:
    """Return the names of the activations that the groups' weights read, each once."""
    return list(dict.fromkeys(v for g in chosen for v in g.values))


def needs_histograms(spec: QuantizeSpec, activations: str) -> bool:
    """Tell whether ranges are read from histograms: not per token, and not where the extremes are the range."""
    return activations == "static" and spec.ranges != "min-max"


def quantized(
    model: ir.Model,
    chosen: RoundingPlan,
    observations: Observations,
    spec: QuantizeSpec,
    *,
    activations: str,
    signed: bool,
) -> tuple[ir.Model, list[StructuralPass]]:
    """Return a copy of the model with a plan carried out, and the passes that did it.

    `activations` is "per-token", "static" or "none"; `signed` as in `QuantizeActivations`.
    """
    result = model.clone()
    passes: list[StructuralPass] = []

    def run(structural: StructuralPass) -> None:
        structural(result)
        passes.append(structural)

    observed = _Observed(observations)
    if spec.migrate and activations != "none":
        migrate = MigrateScales(
            _divisors(result, chosen.groups, observations.values, per_token=activations == "per-token")
        )
        run(migrate)
        observed.divide(result, migrate)
    wanted = {name for g in chosen.groups for name in g.matrices}
    run(_matrices(result, wanted, observed, spec))
    for structural in chosen.in_rows():
        run(structural)
    ranges: dict[str, tuple[float, float] | str] = {}
    if activations != "none":
        for name in dict.fromkeys(v for g in chosen.groups for v in g.values):
            now = observed.now(name)
            ranges[now] = PER_TOKEN if activations == "per-token" else observed.range(name, spec)
        if ranges:
            run(QuantizeActivations(ranges, signed=signed))
    return result, passes


def quantized_for_timing(
    model: ir.Model, chosen: RoundingPlan, spec: QuantizeSpec, *, activations: str, signed: bool
) -> ir.Model:
    """Return a copy of the model with a plan carried out on made-up ranges: as fast as `quantized` makes it, and good for nothing else."""
    result = model.clone()
    bits = 8 if spec.weights == "int8" else 4
    matrices = {}
    for name in sorted({name for g in chosen.groups for name in g.matrices}):
        array = constant(result.graph.initializers[name])
        assert array is not None
        block = spec.block if spec.block and len(array) % spec.block == 0 else None
        matrices[name] = nearest(array, bits=bits, block=block)
    if matrices:
        QuantizeWeights(matrices)(result)
    for structural in chosen.in_rows():
        structural(result)
    values = dict.fromkeys(v for g in chosen.groups for v in g.values)
    if activations != "none" and values:
        ranges = dict.fromkeys(values, PER_TOKEN if activations == "per-token" else (-4.0, 4.0))
        QuantizeActivations(ranges, signed=signed)(result)
    return result


class _Observed:
    """Observations of activations as they are once scales have moved: under the names that are read now, with divisors applied."""

    def __init__(self, observations: Observations):
        self._seen = observations.values
        self._divisors: dict[str, np.ndarray] = {}
        self._names: dict[str, str] = {}

    def divide(self, model: ir.Model, migrated: MigrateScales) -> None:
        """Take note of what a migration did to a model."""
        values = ir.convenience.create_value_mapping(model.graph, include_subgraphs=False)
        assert migrated.report is not None
        for name in migrated.report.changes:
            self._divisors[name] = migrated.divisors[name].astype(np.float64)
            divided = f"{name}.divided"
            if divided in values:
                self._names[name] = divided

    def now(self, name: str) -> str:
        """Return the name under which an activation is read now."""
        return self._names.get(name, name)

    def _original(self, name: str) -> str:
        return next((k for k, v in self._names.items() if v == name), name)

    def has(self, name: str) -> bool:
        """Tell whether what is read under this (present) name was observed."""
        return self._original(name) in self._seen

    def moments(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the second moment `[in, in]` and the mean `[in]` of what is read under this (present) name."""
        original = self._original(name)
        o, d = self._seen[original], self._divisors.get(original)
        assert o.moment is not None and o.mean is not None
        return (o.moment, o.mean) if d is None else (o.moment / np.outer(d, d), o.mean / d)

    def range(self, name: str, spec: QuantizeSpec) -> tuple[float, float]:
        """Return the range of an activation by its original name; where channels were divided, from their own extremes."""
        o, d = self._seen[name], self._divisors.get(name)
        if d is None:
            return o.range(spec.ranges, symmetric=False)
        return float((o.channel_low / d).min()), float((o.channel_high / d).max())


def _divisors(
    model: ir.Model, chosen: Sequence[Group], observations: Mapping[str, Observation], *, per_token: bool
) -> dict[str, np.ndarray]:
    divisors = {}
    by_value: dict[str, list[str]] = {}
    blocks = read_anatomy(model).blocks
    inner = {str(p.first.outputs[0].name) for b in blocks for p in b.projections if p.first is not None}
    for group in chosen:
        for node in (n for p in blocks[group.block].projections for n in p.nodes):
            weight, read = node.inputs[1], node.inputs[0]
            if weight is not None and read is not None and str(weight.name) in group.matrices:
                by_value.setdefault(str(read.name), []).append(str(weight.name))
    for name, weights in by_value.items():
        if name in inner:
            continue
        o = observations[name]
        assert o.sample is not None and o.moment is not None
        arrays = [a for w in dict.fromkeys(weights) if (a := constant(model.graph.initializers[w])) is not None]
        divisor = (
            migration_per_token(o.channel_low, o.channel_high, o.sample, arrays)
            if per_token
            else migration(o.channel_low, o.channel_high, o.moment, arrays)
        )
        if divisor.max() > 1.0:
            divisors[name] = divisor
    return divisors


def _matrices(model: ir.Model, wanted: Iterable[str], observed: _Observed, spec: QuantizeSpec) -> QuantizeWeights:
    """Round all weights named. One that several places share follows the moments of all of them together."""
    matrices: dict[str, QuantizedMatrix] = {}
    shifts: dict[str, np.ndarray] = {}
    for name in sorted(wanted):
        weight = model.graph.initializers[name]
        array = constant(weight)
        assert array is not None
        # Embeddings of relative positions, which queries and keys project too, do not depend on the text: they stay float.
        read = [r for n in consumers(weight) if n.inputs[0] is not None and observed.has(r := str(n.inputs[0].name))]
        moments, means = zip(*(observed.moments(r) for r in read), strict=True)
        bits = 8 if spec.weights == "int8" else 4
        block = spec.block if spec.block and len(array) % spec.block == 0 else None
        if spec.rounding == "gptq":
            matrices[name] = gptq(array, np.mean(moments, axis=0), bits=bits, block=block)
        else:
            matrices[name] = nearest(array, bits=bits, block=block)
        if spec.correct_bias and len(read) == 1:
            shifts[name] = bias_shift(array, matrices[name], means[0])
    return QuantizeWeights(matrices, shifts)


def activations_for(spec: QuantizeSpec, *, kernels: bool) -> str:
    """Return what a recipe's "auto" means: per token where the kernels compute it, else static. int4 quantizes no activations."""
    if spec.activations != "auto":
        return spec.activations
    if spec.weights == "int4":
        return "none"
    return "per-token" if kernels else "static"
