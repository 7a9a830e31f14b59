"""Make the passes that change a model's structure: heads, neurons, blocks, ranks, vocabulary, sharing, storage."""

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...calibration.corpus import read_labeled
from ...errors import UsageError
from ...text import TextEncoder
from ..graph.anatomy import Anatomy
from ..graph.edit import constant
from ..passes.blocks import RemoveBlocks, RemoveParts
from ..passes.heads import RemoveHeads
from ..passes.lowrank import SplitWeights, global_ranks
from ..passes.neurons import RemoveNeurons
from ..passes.quantize import StoreHalf
from ..passes.sharing import ShareWeights
from ..passes.vocabulary import TrimVocabulary, most_used, tokens_to_keep, trim_directory
from ..recipe.pass_specs import (
    HalfSpec,
    RemoveBlocksSpec,
    RemoveHeadsSpec,
    RemoveNeuronsSpec,
    RemovePartsSpec,
    ShareSpec,
    SplitSpec,
    TrimVocabularySpec,
)
from .apply import apply_passes
from .evidence import sites
from .job import Changes, Job
from .search import removals, split_moments


def remove_heads(job: Job, spec: RemoveHeadsSpec) -> Changes:
    """Remove the heads that are not named; of a mere count the least important."""
    keep = {block: _units(job, block, None, units) for block, units in spec.keep.items()}
    return apply_passes(job, [RemoveHeads(keep)])


def remove_neurons(job: Job, spec: RemoveNeuronsSpec) -> Changes:
    """Remove the neurons that are not named; of a mere count the least important."""
    keep = {(block, 0): _units(job, block, 0, units) for block, units in spec.keep.items()}
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
    return removals(model, anatomy, job.learn(model))[site.name].kept(count)


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
    by_site = removals(model, anatomy, job.learn(model))
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
        inputs, outputs = split_moments(anatomy, job.learn(model), names)
    if spec.method == "fisher":  # rows weighted by their own importance alone, as in FWSVD
        inputs = {name: np.diag(moment).copy() for name, moment in inputs.items()}
        outputs = {}
    weights = {name: w for name in names if (w := constant(model.graph.initializers[name])) is not None}
    ranks = global_ranks(weights, spec.keep, job.given.target.spec.rank_multiple, inputs, outputs)
    if spec.embedding_rank is not None:
        largest = max(anatomy.embeddings, key=lambda name: anatomy.embeddings[name][0])
        ranks[largest] = spec.embedding_rank
    return SplitWeights(ranks, inputs, outputs)


def share_weights(job: Job, spec: ShareSpec) -> Changes:
    """Store equal tensors once."""
    return apply_passes(job, [ShareWeights(spec.tolerance)])


def store_half(job: Job, spec: HalfSpec) -> Changes:
    """Store weights and embeddings as float16."""
    return apply_passes(job, [StoreHalf()])


def trim_vocabulary(job: Job, spec: TrimVocabularySpec) -> Changes:
    """Cut the vocabulary of model and tokenizer to what the text uses."""
    given, recipe = job.given, job.given.recipe
    assert recipe.data is not None
    texts, _ = read_labeled(recipe.data, {}, recipe.column)
    info = job.encoder.info
    counts = Counter(i for e in job.encoder.encode(texts) for i in e.ids)
    counts[info.pad_id] += 1
    path = given.staging / info.file
    content = json.loads(path.read_text(encoding="utf-8"))
    kept_tokens = tokens_to_keep(content, counts) if spec.tokens is None else most_used(content, counts, spec.tokens)
    before, after = TrimVocabulary(tuple(kept_tokens)).apply(job.outcome.model)
    TrimVocabulary(tuple(kept_tokens)).apply(job.source_model)
    trim_directory(given.staging, kept_tokens)
    info.pad_id = kept_tokens.index(info.pad_id)
    info.mask_id = kept_tokens.index(info.mask_id) if info.mask_id in kept_tokens else None
    job.encoder = TextEncoder(path, info)
    job.batches = given.batches(job.encoder)
    job.outcome.kept_tokens = kept_tokens
    used = sum(counts[i] for i in kept_tokens) / counts.total()
    share = f", {100 * used:.1f} % of those in the text" if used < 1 else ""
    return {"vocabulary": f"{before} → {after} tokens{share}"}
