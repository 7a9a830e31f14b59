"""Run the passes of a recipe, one step for each kind."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from ...calibration.batches import make_batches
from ...calibration.corpus import read_labeled
from ...errors import GateError, UsageError
from ...text import TextEncoder
from ..check.parity import TOLERANCE
from ..graph.anatomy import Anatomy, read_anatomy
from ..graph.edit import constant
from ..graph.torch_graph import TorchGraph
from ..passes.base import REPORT_LENGTH, PassReport, StructuralPass
from ..passes.blocks import RemoveBlocks, RemoveParts
from ..passes.heads import RemoveHeads, columns_of
from ..passes.lowrank import SplitMatrices, global_ranks
from ..passes.neurons import RemoveNeurons
from ..passes.quantize import StoreHalf
from ..passes.sharing import ShareWeights
from ..recipe.passes import (
    FitSpec,
    HalfSpec,
    QuantizeSpec,
    RecoverSpec,
    RemoveBlocksSpec,
    RemoveHeadsSpec,
    RemoveNeuronsSpec,
    RemovePartsSpec,
    RepairSpec,
    ShareSpec,
    SplitSpec,
    TrimVocabularySpec,
)
from ..targets.registry import kernels_of
from .evidence import sites
from .fit import Tools, Unreachable, fit, rounds_for
from .job import Job, Stage, runs
from .latency import measure_table
from .recover import recover
from .repair import repair
from .rounding_plan import Plan as RoundingPlan
from .rounding_plan import activations_for, look, needs_histograms, plan, quantized
from .saved_plans import plan_file, read_plans, write_plans
from .search import removals, split_moments
from .sensitivity import effects, mixed

_SAME = 0.98
"""A pass that leaves more than this part of the time saved nothing: the noise of a paired measurement."""

_FEW_BATCHES = 8
"""So many batches of calibration text tell how sensitive a group is."""


def run_pass(job: Job, spec: Any, staging: Path) -> None:
    """Makes one pass of the recipe, and measures what it did."""
    before = job.stages[-1]
    job.step(spec.kind)
    if isinstance(spec, RepairSpec):
        gains = repair(
            TorchGraph(job.source_model),
            job.model,
            job.batches,
            method=spec.method,
            on_site=lambda s: job.step(f"repair {s}"),
        )
        mean = float(np.exp(np.mean(np.log(list(gains.values()))))) if gains else 1.0
        job.stages.append(job.measure("repair", {"sites": f"{len(gains)}, squared error ÷ {mean:.2f}"}))
        return
    if isinstance(spec, RecoverSpec):
        job.stages.append(_recover(job, spec))
        return
    saved = job.model.clone()
    changes = _shrink(job, spec, staging)
    stage = job.measure(spec.kind, changes)
    smaller, faster = stage.nbytes < before.nbytes, stage.ms < _SAME * before.ms
    stage.paid = smaller or faster
    if isinstance(spec, SplitSpec) and not faster:
        job.model = saved
        stage = Stage(spec.kind, before.nbytes, before.ms, before.quality, changes, paid=False, undone=True)
    job.stages.append(stage)


def _quantize(job: Job, spec: QuantizeSpec) -> dict[str, str]:
    """Rounds matrices, tables and values; with `search`, as many as `max_drop` allows."""
    chosen = plan(job.model, job.anatomy, spec, int8_tables=job.target.spec.int8_tables)
    if not chosen.groups:
        raise UsageError("quantize: no matrix of the blocks is left to round")
    by_token = job.target.spec.rounds_tokens or kernels_of(job.recipe) != "stock"
    activations = activations_for(spec, kernels=by_token)
    seen = look(
        job.model,
        chosen.groups,
        job.batches,
        source=job.fingerprint,
        text=job.text,
        seed=job.recipe.calibration.seed,
        histograms=needs_histograms(spec, activations),
        on_batch=lambda: job.step("observe values", of=len(job.batches)),
    )
    job.observed = seen.describe()
    signed = job.target.spec.signed_values

    def made(one: RoundingPlan) -> tuple[ir.Model, list[StructuralPass]]:
        return quantized(job.model, one, seen, spec, activations=activations, signed=signed)

    def judge(one: RoundingPlan) -> tuple[float, tuple[ir.Model, list[StructuralPass]]]:
        job.step("search what stays float")
        tried = made(one)
        points = job.quality.measure(runs(tried[0]), job.encoder, job.kept_tokens)
        return job.quality.source - points, tried

    if spec.search:
        found = effects(
            job.model,
            chosen,
            seen,
            spec,
            job.batches[:: max(1, len(job.batches) // _FEW_BATCHES)],
            activations=activations,
            signed=signed,
            on_group=lambda name: job.step("sensitivity", of=len(chosen.groups)),
        )
        job.sensitivity = {e.group.name: e.error for e in found}
        best = mixed(chosen, found, judge, job.recipe.max_drop)
        if best is None:
            raise GateError(
                f"even one rounded group of matrices costs more than {job.recipe.max_drop:g} points of {job.quality.metric}: "
                "raise --max-drop, or leave this model in float"
            )
        chosen, (job.model, passes) = best
    else:
        job.model, passes = made(chosen)
    job.left_float = chosen.left
    job.reports += [one.report for one in passes if one.report is not None]
    count = sum(len(g.matrices) for g in chosen.groups)
    changes = {"matrices": f"{count} {spec.weights}", "tables": f"{len(chosen.tables)} int8", "values": activations}
    return changes | ({"left in float": str(len(chosen.left))} if chosen.left else {})


def _shrink(job: Job, spec: Any, staging: Path) -> dict[str, str]:
    if isinstance(spec, FitSpec):
        return _fit(job, spec)
    if isinstance(spec, TrimVocabularySpec):
        return _trim(job, spec, staging)
    if isinstance(spec, QuantizeSpec):
        return _quantize(job, spec)
    anatomy = job.anatomy
    one: StructuralPass
    if isinstance(spec, RemoveHeadsSpec):
        one = RemoveHeads({b: _kept(job, anatomy, b, None, k) for b, k in spec.keep.items()})
    elif isinstance(spec, RemoveNeuronsSpec):
        one = RemoveNeurons({(b, 0): _kept(job, anatomy, b, 0, k) for b, k in spec.keep.items()})
    elif isinstance(spec, RemoveBlocksSpec):
        one = RemoveBlocks(_blocks(job, spec, anatomy))
    elif isinstance(spec, RemovePartsSpec):
        one = RemoveParts(spec.attentions, [(b, 0) for b in spec.feed_forwards])
    elif isinstance(spec, ShareSpec):
        one = ShareWeights(spec.tolerance)
    elif isinstance(spec, HalfSpec):
        one = StoreHalf()
    else:
        assert isinstance(spec, SplitSpec)
        one = _split(job, spec, anatomy)
    return _apply(job, [one])


def _kept(job: Job, anatomy: Anatomy, block: int, number: int | None, wanted: Sequence[int] | int) -> Sequence[int]:
    """The units named; or of a mere count the most important ones, neurons grown to the multiple that pays."""
    if not isinstance(wanted, int):
        return wanted
    site = next((s for s in sites(anatomy) if (s.block, s.number) == (block, number)), None)
    if site is None or not 0 <= wanted <= site.units:
        what = "heads" if number is None else "neurons"
        there = f"it has {site.units}" if site is not None else "there is no such part"
        raise UsageError(f"block {block}: {wanted} {what} cannot be kept, {there}")
    count = wanted if site.is_attention else job.target.spec.grown(wanted, site.units)
    return removals(job.model, anatomy, job.learn(job.model))[site.name].kept(count)


def _blocks(job: Job, spec: RemoveBlocksSpec, anatomy: Anatomy) -> Sequence[int]:
    """Blocks that go. The least important are those whose parts would lose least if all their units went."""
    if spec.every is not None:
        return range(spec.every - 1, len(anatomy.blocks), spec.every)
    if spec.least_important is None:
        return spec.blocks
    losses = dict.fromkeys(range(len(anatomy.blocks)), 0.0)
    found = removals(job.model, anatomy, job.learn(job.model))
    for site in sites(anatomy):
        losses[site.block] += float(found[site.name].loss[-1])
    return sorted(sorted(losses, key=losses.__getitem__)[: spec.least_important])


def _apply(job: Job, passes: Sequence[StructuralPass]) -> dict[str, str]:
    """Applies passes to the job's model, all or none; returns the changes."""
    job.model = _applied(job, job.model, passes)
    job.reports += [one.report for one in passes if one.report is not None]
    return {k: v for one in passes if one.report is not None for k, v in one.report.changes.items()}


def _applied(job: Job, model: ir.Model, passes: Sequence[StructuralPass]) -> ir.Model:
    """A copy of the model with the passes applied, each checked: what it took away is all that changed."""
    made = model.clone()
    for one in passes:
        gates = _gates(made, one)
        before = made.clone() if gates is not None else made
        one(made)
        if gates is not None:
            _check_removal(job, before, made, {str(v.name): kept for v, kept in gates.items()})
    return made


def _gates(model: ir.Model, one: StructuralPass) -> dict[ir.Value, np.ndarray] | None:
    """For a pass that only closes gates: which inputs of which sites stay, `[features]` of ones and zeros."""
    if not isinstance(one, RemoveHeads | RemoveNeurons):
        return None
    closed: dict[ir.Value, np.ndarray] = {}
    for site in sites(read_anatomy(model)):
        if isinstance(one, RemoveHeads) and site.is_attention and site.block in one.keep:
            kept = columns_of(sorted(one.keep[site.block]), site.unit)
        elif isinstance(one, RemoveNeurons) and site.number is not None and (site.block, site.number) in one.keep:
            kept = np.asarray(one.keep[site.block, site.number], np.int64)
        else:
            continue
        closed[site.projection.input] = np.isin(np.arange(site.units * site.unit), kept).astype(np.float32)
    return closed


def _check_removal(job: Job, whole: ir.Model, cut: ir.Model, gates: Mapping[str, np.ndarray]) -> None:
    """A cut model must answer as the whole one with those gates closed; anything else is a mistake of ours, never shipped.

    `gates` by the name of the value they act on.
    """
    batch = job.batches[len(job.batches) // 2]
    mask = torch.from_numpy(batch.mask)
    values = ir.convenience.create_value_mapping(whole.graph, include_subgraphs=False)
    hooks = {values[name]: partial(torch.mul, torch.from_numpy(kept)) for name, kept in gates.items()}
    with torch.no_grad():
        wanted = TorchGraph(whole)(batch.feeds, hooks)
        given = TorchGraph(cut)(batch.feeds)
    for name, value in wanted.items():
        difference = (value - given[name]).abs()
        off = float(difference[mask].max() if value.shape[: mask.ndim] == mask.shape else difference.max())
        if not off <= TOLERANCE["float32"] * max(1.0, float(value.abs().max())):
            raise GateError(
                f"removal changed output {name!r} by {off:.3g} more than closing the same gates does; nothing was written"
            )


def _fit(job: Job, spec: FitSpec) -> dict[str, str]:
    """Removes in rounds until the budget is met; says what every part has become."""
    before = job.anatomy
    length = int(np.mean([n for _, n in job.workload.shapes]))
    if spec.flops is None:
        job.table = measure_table(job.model, job.workload, job.target.spec, on_level=job.step)
        scale = job.table.full / job.stages[-1].ms
        goal = job.full_ms / spec.speedup if spec.speedup else float(spec.latency_ms or 0)
        budget, share = goal * scale, goal / job.stages[-1].ms
    else:
        scale, goal = 1.0, 0.0
        budget, share = spec.flops * before.flops_per_token(length) / 2, spec.flops
    tools = Tools(
        TorchGraph(job.source_model),
        job.batches,
        job.table,
        length,
        job.learn,
        partial(_applied, job),
        (lambda m: job.time(m)[0] * scale) if job.table is not None else None,
        job.target.spec,
        job.step,
    )
    try:
        job.model, job.plans = fit(
            job.model,
            tools,
            budget=budget,
            rounds=[spec.rounds] if spec.rounds else [1, rounds_for(min(share, 1.0))],
            plans=read_plans(job),
        )
    except Unreachable as error:
        if spec.flops is not None:
            raise GateError(f"{spec.flops:g} of the operations cannot be met: {error}") from error
        closest = min(error.closest / scale, job.stages[-1].ms)
        raise GateError(
            f"the budget of {goal:.2f} ms cannot be met on {job.workload}: the fastest that was built takes {closest:.2f} ms "
            f"({job.full_ms / closest:.2f} times as fast as the source); ask for that or less"
        ) from error
    after = job.anatomy
    changes = _what_became(before, after)
    flops = before.flops_per_token(REPORT_LENGTH), after.flops_per_token(REPORT_LENGTH)
    sizes = (before.parameters, after.parameters), (before.nbytes, after.nbytes)
    job.reports.append(PassReport("Fit", changes, *sizes, flops))
    return changes


def _what_became(before: Anatomy, after: Anatomy) -> dict[str, str]:
    """Each part that changed, in words; parts are found again by the name of their result."""
    left = {str(s.projection.output.name): s for s in sites(after)}
    changes = {}
    for site in sites(before):
        now = left.get(str(site.projection.output.name))
        what = "heads" if site.is_attention else "neurons"
        where = f"block {site.block}" + (f" feed-forward {site.number}" if site.number else "")
        if now is None:
            changes[f"{where} {what}"] = "all removed"
        elif now.units != site.units:
            changes[f"{where} {what}"] = f"{site.units} → {now.units}"
        elif now.projection.rank != site.projection.rank:
            changes[f"{where} {'attention' if site.is_attention else 'feed-forward'}"] = f"rank {now.projection.rank}"
    return changes


def _split(job: Job, spec: SplitSpec, anatomy: Anatomy) -> SplitMatrices:
    names = dict.fromkeys(p.weight for b in anatomy.blocks for p in b.projections if p.rank is None)
    inputs: dict[str, np.ndarray] = {}
    outputs: dict[str, np.ndarray] = {}
    if spec.method != "plain":
        inputs, outputs = split_moments(anatomy, job.learn(job.model), names)
    if spec.method == "fisher":  # rows weighted by their own importance alone, as in FWSVD
        inputs = {n: np.diag(m).copy() for n, m in inputs.items()}
        outputs = {}
    weights = {n: constant(job.model.graph.initializers[n]) for n in names}
    ranks = global_ranks(
        {n: w for n, w in weights.items() if w is not None}, spec.keep, job.target.spec.rank_multiple, inputs, outputs
    )
    if spec.embedding_rank is not None:
        table = max(anatomy.embeddings, key=lambda n: anatomy.embeddings[n][0])
        ranks[table] = spec.embedding_rank
    return SplitMatrices(ranks, inputs, outputs)


def _trim(job: Job, spec: TrimVocabularySpec, staging: Path) -> dict[str, str]:
    """Cuts the vocabulary of model and tokenizer to what the text uses."""
    from ..passes.vocabulary import TrimVocabulary, most_used, tokens_to_keep, trim_directory

    assert job.recipe.data is not None
    texts, _ = read_labeled(job.recipe.data, {}, job.recipe.column)
    counts = Counter(i for e in job.encoder.encode(texts) for i in e.ids)
    counts[job.encoder.info.pad_id] += 1
    path = staging / job.encoder.info.file
    content = json.loads(path.read_text(encoding="utf-8"))
    kept = tokens_to_keep(content, counts) if spec.tokens is None else most_used(content, counts, spec.tokens)
    before, after = TrimVocabulary(tuple(kept)).apply(job.model)
    TrimVocabulary(tuple(kept)).apply(job.source_model)
    trim_directory(staging, kept)
    info = job.encoder.info
    info.pad_id = kept.index(info.pad_id)
    job.encoder = TextEncoder(path, info)
    job.batches = job.batched(job.encoder)
    job.kept_tokens = kept
    used = sum(counts[i] for i in kept) / counts.total()
    return {
        "vocabulary": f"{before} → {after} tokens" + (f", {100 * used:.1f} % of those in the text" if used < 1 else "")
    }


def _recover(job: Job, spec: RecoverSpec) -> Stage:
    state = job.out.parent / f".{job.out.name}.recover.safetensors"
    if job.plans:
        write_plans(job)
    source = TorchGraph(job.source_model)

    def tell(spent: float, allowed: float, loss: float) -> None:
        job.step(f"recover, loss {loss:.4f}", of=100, at=100 * spent / allowed)

    try:
        done = recover(
            source,
            read_anatomy(job.source_model),
            job.model,
            make_batches(job.encoder, job.texts, longest=job.encoder.info.max_length, seed=job.recipe.calibration.seed),
            spec.minutes,
            state=state,
            seed=job.recipe.calibration.seed,
            on_step=tell,
        )
    except KeyboardInterrupt:
        job.step("interrupted: run the same command again to go on")
        raise
    plan_file(job).unlink(missing_ok=True)
    job.recovery = done
    stage = job.measure("recover", {"texts": f"{done.texts} in {done.seconds / 60:.1f} minutes"})
    stage.seconds = done.seconds
    return stage
