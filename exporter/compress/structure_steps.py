"""Make the passes that change a model's structure: heads, neurons, blocks, ranks, sharing, storage."""

from collections.abc import Sequence

import numpy as np

from ...errors import UsageError
from ..graph.anatomy import Anatomy
from ..graph.edit import constant
from ..passes.blocks import RemoveBlocks, RemoveParts
from ..passes.heads import RemoveHeads
from ..passes.lowrank import SplitWeights, global_ranks
from ..passes.neurons import RemoveNeurons
from ..passes.quantize import StoreHalf
from ..passes.sharing import ShareWeights
from ..recipe.pass_specs import (
    HalfSpec,
    RemoveBlocksSpec,
    RemoveHeadsSpec,
    RemoveNeuronsSpec,
    RemovePartsSpec,
    ShareSpec,
    SplitSpec,
)
from .apply import apply_passes
from .evidence import sites
from .job import Changes, Job
from .memory import learn
from .search import removals, split_moments


def remove_heads(job: Job, spec: RemoveHeadsSpec) -> Changes:
    """Remove the heads that are not named; of a mere count the least important."""
    keep = {block: _units(job, block, None, units) for block, units in spec.keep.items()}
    job.outcome.decided["keep"] = {block: list(units) for block, units in keep.items()}
    return apply_passes(job, [RemoveHeads(keep)])


def remove_neurons(job: Job, spec: RemoveNeuronsSpec) -> Changes:
    """Remove the neurons that are not named; of a mere count the least important."""
    keep = {(block, 0): _units(job, block, 0, units) for block, units in spec.keep.items()}
    job.outcome.decided["keep"] = {block: list(units) for (block, _), units in keep.items()}
    return apply_passes(job, [RemoveNeurons(keep)])


def _units(job: Job, block: int, number: int | None, wanted: Sequence[int] | int) -> Sequence[int]:
    """Return the units named; of a mere count the most important, neurons rounded up to the multiple that pays."""
    if not isinstance(wanted, int):
        return wanted
    anatomy = job.anatomy
    site = next((s for s in sites(anatomy) if (s.block, s.number) == (block, number)), None)
    if site is None or not 0 <= wanted <= site.units:
        what = "heads" if number is None else "neurons"
        there = f"it has {site.units}" if site is not None else "there is no such part"
        raise UsageError(f"block {block}: {wanted} {what} cannot be kept, {there}")
    count = wanted if site.is_attention else job.given.target.spec.grown(wanted, site.units)
    model = job.outcome.model
    return removals(model, anatomy, learn(job, model))[site.name].kept(count)


def remove_blocks(job: Job, spec: RemoveBlocksSpec) -> Changes:
    """Remove whole blocks."""
    return apply_passes(job, [RemoveBlocks(_blocks(job, spec))])


def _blocks(job: Job, spec: RemoveBlocksSpec) -> Sequence[int]:
    """Return the blocks to remove. The least important are those whose parts would lose least if all their units went."""
    anatomy, model = job.anatomy, job.outcome.model
    if spec.every is not None:
        return range(spec.every - 1, len(anatomy.blocks), spec.every)
    if spec.least_important is None:
        return spec.blocks
    losses = dict.fromkeys(range(len(anatomy.blocks)), 0.0)
    by_site = removals(model, anatomy, learn(job, model))
    for site in sites(anatomy):
        losses[site.block] += float(by_site[site.name].loss[-1])
    return sorted(sorted(losses, key=losses.__getitem__)[: spec.least_important])


def remove_parts(job: Job, spec: RemovePartsSpec) -> Changes:
    """Remove whole attentions and feed-forwards."""
    return apply_passes(job, [RemoveParts(spec.attentions, [(block, 0) for block in spec.feed_forwards])])


def split_weights(job: Job, spec: SplitSpec) -> Changes:
    """Split weight matrices at the ranks that lose least."""
    return apply_passes(job, [_split(job, spec, job.anatomy)])


def _split(job: Job, spec: SplitSpec, anatomy: Anatomy) -> SplitWeights:
    model = job.outcome.model
    names = dict.fromkeys(p.weight for b in anatomy.blocks for p in b.projections if p.rank is None)
    inputs: dict[str, np.ndarray] = {}
    outputs: dict[str, np.ndarray] = {}
    if spec.method != "plain":
        inputs, outputs = split_moments(anatomy, learn(job, model), names)
    if spec.method == "fisher":  # rows weighted by their own importance alone, as in FWSVD
        inputs = {name: np.diag(moment).copy() for name, moment in inputs.items()}
        outputs = {}
    if spec.ranks is not None:
        return SplitWeights(spec.ranks, inputs, outputs)
    weights = {name: w for name in names if (w := constant(model.graph.initializers[name])) is not None}
    ranks = global_ranks(weights, spec.keep, job.given.target.spec.rank_multiple, inputs, outputs)
    if spec.embedding_rank is not None:
        largest = max(anatomy.embeddings, key=lambda name: anatomy.embeddings[name][0])
        ranks[largest] = spec.embedding_rank
    job.outcome.decided["ranks"] = ranks
    return SplitWeights(ranks, inputs, outputs)


def share_weights(job: Job, spec: ShareSpec) -> Changes:
    """Store equal tensors once."""
    return apply_passes(job, [ShareWeights(spec.tolerance)])


def store_half(job: Job, spec: HalfSpec) -> Changes:
    """Store weights and embeddings as float16."""
    return apply_passes(job, [StoreHalf()])
