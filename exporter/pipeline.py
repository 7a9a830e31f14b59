"""Runs a recipe's passes on a canonical model, one after the other, and measures what each bought. Imports torch."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from ..calibration.batches import Batch, make_batches
from ..calibration.evidence import Evidence, collect, sites
from ..calibration.text import read_labelled
from . import recipe as r
from . import verify
from .bundle import TextEncoder
from .errors import GateError, UsageError
from .graph.anatomy import Anatomy, read_anatomy
from .graph.edit import constant
from .graph.torch_graph import TorchGraph
from .latency import LatencyTable, Workload, measure_table, open_model, paired_times
from .passes.base import PassReport, StructuralPass
from .passes.heads import RemoveHeads, columns_of
from .passes.layers import RemoveBlocks, RemoveParts
from .passes.lowrank import SplitMatrices, global_ranks
from .passes.neurons import RemoveNeurons
from .passes.sharing import ShareWeights
from .quality import Quality
from .recover import Recovery, recover
from .repair import repair
from .runner import Runner
from .search import Plan, choose, find_parts, removals, split_moments
from .targets import ort

_TRIES = 5
_SAME = 0.98
"""A pass that leaves more than this part of the time saved nothing: the noise of a paired measurement."""

Step = Callable[..., None]


@dataclass
class Stage:
    """The model after one pass: bytes of the artifact, milliseconds on the workload, quality in points.

    `paid`: whether it saved bytes or time; None where a pass is not there to save. `undone`: taken back, since it did not.
    """

    name: str
    nbytes: int
    ms: float
    quality: float
    changes: dict[str, str] = field(default_factory=dict)
    paid: bool | None = None
    undone: bool = False
    seconds: float = 0.0


@dataclass
class Job:
    """A compression under way."""

    recipe: r.Recipe
    model: ir.Model
    source_model: ir.Model
    encoder: TextEncoder
    batches: list[Batch]
    texts: list[str]
    labels: np.ndarray | None
    workload: Workload
    quality: Quality
    baseline: Runner
    folder: Path
    fingerprint: str
    text: str
    step: Step
    out: Path
    stages: list[Stage] = field(default_factory=list)
    reports: list[PassReport] = field(default_factory=list)
    plan: Plan | None = None
    table: LatencyTable | None = None
    recovery: Recovery | None = None
    kept_tokens: list[int] | None = None
    kept_heads: dict[str, list[int]] = field(default_factory=dict)
    full_ms: float = 0.0
    learned: dict[str, Any] | None = None
    _evidence: Evidence | None = None

    @property
    def anatomy(self) -> Anatomy:
        return read_anatomy(self.model)

    def evidence(self) -> Evidence:
        """Of the model as it is: collected when asked for, anew after a removal."""
        if self._evidence is None:
            self.step("importances", of=len(self.batches))
            self._evidence = collect(
                TorchGraph(self.model),
                self.anatomy,
                self.batches,
                source=self.fingerprint,
                text=self.text,
                labels=self.labels,
                seed=self.recipe.calibration.seed,
                on_batch=lambda: self.step("importances", of=len(self.batches)),
            )
            self.learned = self._evidence.describe()
        return self._evidence

    def measure(self, name: str, changes: dict[str, str]) -> Stage:
        """Builds the model as it is, times it beside the uncompressed one, and judges it."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            runner = open_model(self.model.clone(), Path(folder), self.workload.threads)
            nbytes = sum(p.stat().st_size for p in ort.files(Path(folder)))
            whole, own = paired_times([self.baseline, runner], self.workload)
            points = self.quality.measure(runner.run, self.encoder, self.kept_tokens)
        self.full_ms = self.full_ms or whole
        return Stage(name, nbytes, self.full_ms * own / whole, points, changes)


def run_pass(job: Job, spec: Any, staging: Path) -> None:
    """Makes one pass of the recipe, and measures what it did."""
    before = job.stages[-1]
    job.step(spec.kind)
    if isinstance(spec, r.Repair):
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
    if isinstance(spec, r.Recover):
        job.stages.append(_recover(job, spec))
        return
    saved = job.model.clone()
    changes = _remove(job, spec, staging)
    stage = job.measure(spec.kind, changes)
    smaller, faster = stage.nbytes < before.nbytes, stage.ms < _SAME * before.ms
    stage.paid = smaller or faster
    if isinstance(spec, r.Split) and not faster:
        job.model = saved
        stage = Stage(spec.kind, before.nbytes, before.ms, before.quality, changes, paid=False, undone=True)
    job.stages.append(stage)


def _remove(job: Job, spec: Any, staging: Path) -> dict[str, str]:
    if isinstance(spec, r.Fit):
        return _fit(job, spec)
    if isinstance(spec, r.TrimVocabulary):
        return _trim(job, staging)
    anatomy = job.anatomy
    one: StructuralPass
    if isinstance(spec, r.RemoveHeads):
        one = RemoveHeads({b: _kept(job, anatomy, b, None, k) for b, k in spec.keep.items()})
    elif isinstance(spec, r.RemoveNeurons):
        one = RemoveNeurons({(b, 0): _kept(job, anatomy, b, 0, k) for b, k in spec.keep.items()})
    elif isinstance(spec, r.RemoveBlocks):
        one = RemoveBlocks(_blocks(job, spec, anatomy))
    elif isinstance(spec, r.RemoveParts):
        one = RemoveParts(spec.attentions, [(b, 0) for b in spec.feed_forwards])
    elif isinstance(spec, r.Share):
        one = ShareWeights(spec.tolerance)
    else:
        assert isinstance(spec, r.Split)
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
    count = wanted if site.is_attention else ort.SPEC.grown(wanted, site.units)
    return removals(job.model, anatomy, job.evidence())[site.name].kept(count)


def _blocks(job: Job, spec: r.RemoveBlocks, anatomy: Anatomy) -> Sequence[int]:
    """Blocks that go. The least important are those whose parts would lose least if all their units went."""
    if spec.every is not None:
        return range(spec.every - 1, len(anatomy.blocks), spec.every)
    if spec.least_important is None:
        return spec.blocks
    losses = dict.fromkeys(range(len(anatomy.blocks)), 0.0)
    found = removals(job.model, anatomy, job.evidence())
    for site in sites(anatomy):
        losses[site.block] += float(found[site.name].loss[-1])
    return sorted(sorted(losses, key=losses.__getitem__)[: spec.least_important])


def _apply(job: Job, passes: Sequence[StructuralPass]) -> dict[str, str]:
    """Applies passes to the job's model, all or none, and checks that what they took away is all that changed."""
    changes: dict[str, str] = {}
    trial = job.model.clone()
    gates = _gates(job.model, passes)
    for one in passes:
        if isinstance(one, RemoveHeads):
            job.kept_heads |= _heads_by_name(read_anatomy(trial), one)
        one(trial)
        assert one.report is not None
        changes |= {f"{k} ({type(one).__name__})" if k in changes else k: v for k, v in one.report.changes.items()}
    if gates is not None:
        _check_removal(job, trial, gates)
    job.model, job._evidence = trial, None
    job.reports += [one.report for one in passes if one.report is not None]
    return changes


def _heads_by_name(anatomy: Anatomy, one: RemoveHeads) -> dict[str, list[int]]:
    attentions = ((b.index, b.attention) for b in anatomy.blocks if b.index in one.keep)
    return {str(a.o.output.name): sorted(one.keep[i]) for i, a in attentions if a is not None}


def _gates(model: ir.Model, passes: Sequence[StructuralPass]) -> dict[ir.Value, np.ndarray] | None:
    """For passes that only close gates: which inputs of which sites stay, `[features]` of ones and zeros."""
    closed: dict[ir.Value, np.ndarray] = {}
    for site in sites(read_anatomy(model)):
        for one in passes:
            if isinstance(one, RemoveHeads) and site.is_attention and site.block in one.keep:
                kept = columns_of(sorted(one.keep[site.block]), site.unit)
            elif isinstance(one, RemoveNeurons) and not site.is_attention and (site.block, site.number) in one.keep:
                kept = np.asarray(one.keep[site.block, site.number or 0], np.int64)
            else:
                continue
            closed[site.projection.input] = np.isin(np.arange(site.units * site.unit), kept).astype(np.float32)
    return closed if all(isinstance(one, RemoveHeads | RemoveNeurons) for one in passes) else None


def _check_removal(job: Job, trial: ir.Model, gates: Mapping[ir.Value, np.ndarray]) -> None:
    """A cut model must answer as the whole one with those gates closed; anything else is a mistake of ours, never shipped."""
    batch = job.batches[len(job.batches) // 2]
    hooks = {v: partial(torch.mul, torch.from_numpy(kept)) for v, kept in gates.items()}
    with torch.no_grad():
        wanted = TorchGraph(job.model)(batch.feeds, hooks)
        given = TorchGraph(trial)(batch.feeds)
    for name, value in wanted.items():
        off = (
            float((value - given[name])[torch.from_numpy(batch.mask)].abs().max())
            if value.shape[:2] == batch.mask.shape
            else float((value - given[name]).abs().max())
        )
        if off > verify.TOLERANCE["float32"] * max(1.0, float(value.abs().max())):
            raise GateError(
                f"removal changed output {name!r} by {off:.3g} more than closing the same gates does; nothing was written"
            )


def _fit(job: Job, spec: r.Fit) -> dict[str, str]:
    """Searches within the budget; where the measured time misses it, the budget is drawn tighter and the search repeated."""
    anatomy, evidence = job.anatomy, job.evidence()
    if spec.flops is None:
        job.table = measure_table(job.model, job.workload, ort.SPEC, on_level=job.step)
    length = int(np.mean([n for _, n in job.workload.shapes]))
    parts = find_parts(
        job.model, anatomy, evidence, job.table, ort.SPEC, length=length, on_part=lambda s: job.step(f"rank {s}")
    )
    if job.table is None:
        assert spec.flops is not None
        whole = anatomy.flops_per_token(length) / 2
        rest = whole - sum(
            max(o.cost for o in p.options if o.keep == p.sites[0].units and o.rank is None) for p in parts
        )
        job.plan = choose(parts, anatomy, spec.flops * whole - rest)
        return _apply(job, job.plan.passes(anatomy, evidence))
    before, table = job.stages[-1], job.table
    goal = job.full_ms / spec.speedup if spec.speedup else float(spec.latency_ms or 0)
    scale = table.full / before.ms
    budget, fastest, start = goal * scale - table.rest, before.ms, job.model
    resumed = _saved_plan(job)
    if resumed is not None:
        job.plan = resumed
        return _apply(job, resumed.passes(anatomy, evidence))
    for _ in range(_TRIES):
        try:
            job.plan = choose(parts, anatomy, budget)
        except GateError as error:
            raise GateError(
                f"the budget of {goal:.2f} ms cannot be met on {job.workload}: the fastest that was built takes {fastest:.2f} ms "
                f"({job.full_ms / fastest:.2f} times as fast as the source); ask for that or less"
            ) from error
        job.model = start
        changes = _apply(job, job.plan.passes(anatomy, evidence))
        job.step("measure")
        measured = job.measure("fit", changes).ms
        fastest = min(fastest, measured)
        if measured <= goal * 1.005:
            return changes
        budget -= (measured - goal) * scale + 0.002 * table.full
    raise GateError(
        f"the budget of {goal:.2f} ms was not met in {_TRIES} searches: {fastest:.2f} ms is the closest; ask for that or more"
    )


def _split(job: Job, spec: r.Split, anatomy: Anatomy) -> SplitMatrices:
    names = {p.weight: 0 for b in anatomy.blocks for p in b.projections if p.rank is None}
    inputs: dict[str, np.ndarray] = {}
    outputs: dict[str, np.ndarray] = {}
    if spec.method != "plain":
        inputs, outputs = split_moments(anatomy, job.evidence(), names)
    if spec.method == "fisher":  # rows weighted by their own importance alone, as in FWSVD
        inputs = {n: np.diag(m).copy() for n, m in inputs.items()}
        outputs = {}
    weights = {n: constant(job.model.graph.initializers[n]) for n in names}
    ranks = global_ranks(
        {n: w for n, w in weights.items() if w is not None}, spec.keep, ort.SPEC.rank_multiple, inputs, outputs
    )
    if spec.embedding_rank is not None:
        table = max(anatomy.embeddings, key=lambda n: anatomy.embeddings[n][0])
        ranks[table] = spec.embedding_rank
    return SplitMatrices(ranks, inputs, outputs)


def _trim(job: Job, staging: Path) -> dict[str, str]:
    """Cuts the vocabulary of model and tokenizer to what the text uses."""
    from .passes.vocabulary import TrimVocabulary, tokens_to_keep, trim_directory

    assert job.recipe.data is not None
    texts, _ = read_labelled(job.recipe.data, {})
    used = {i for e in job.encoder.encode(texts) for i in e.ids} | {job.encoder.info.pad_id}
    path = staging / job.encoder.info.file
    kept = tokens_to_keep(json.loads(path.read_text(encoding="utf-8")), used)
    before, after = TrimVocabulary(tuple(kept)).apply(job.model)
    TrimVocabulary(tuple(kept)).apply(job.source_model)
    trim_directory(staging, kept)
    info = job.encoder.info
    info.pad_id = kept.index(info.pad_id)
    job.encoder = TextEncoder(path, info)
    new = {old: i for i, old in enumerate(kept)}
    job.batches = [
        Batch(b.feeds | {"input_ids": np.vectorize(new.__getitem__)(b.feeds["input_ids"]).astype(np.int64)}, b.rows)
        for b in job.batches
    ]
    job.kept_tokens = kept
    return {"vocabulary": f"{before} → {after} tokens"}


def _recover(job: Job, spec: r.Recover) -> Stage:
    state = job.out.parent / f".{job.out.name}.recover.safetensors"
    _save_plan(job)
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
            kept_heads=job.kept_heads,
            state=state,
            seed=job.recipe.calibration.seed,
            on_step=tell,
        )
    except KeyboardInterrupt:
        job.step("interrupted: run the same command again to go on")
        raise
    _plan_file(job).unlink(missing_ok=True)
    job.recovery = done
    stage = job.measure("recover", {"texts": f"{done.texts} in {done.seconds / 60:.1f} minutes"})
    stage.seconds = done.seconds
    return stage


def _plan_file(job: Job) -> Path:
    return job.out.parent / f".{job.out.name}.plan.json"


def _save_plan(job: Job) -> None:
    """What was chosen stays beside the progress: a search repeated on a noisy machine might choose otherwise."""
    if job.plan is None:
        return
    plan = {
        "recipe": job.recipe.to_yaml(),
        "source": job.fingerprint,
        "heads": job.plan.heads,
        "neurons": [[b, n, kept] for (b, n), kept in job.plan.neurons.items()],
        "ranks": job.plan.ranks,
        "cost": job.plan.cost,
        "loss": job.plan.loss,
    }
    _plan_file(job).write_text(json.dumps(plan), encoding="utf-8")


def _saved_plan(job: Job) -> Plan | None:
    path = _plan_file(job)
    if not path.is_file():
        return None
    raw = json.loads(path.read_text(encoding="utf-8"))
    if raw["recipe"] != job.recipe.to_yaml() or raw["source"] != job.fingerprint:
        return None
    heads = {int(b): kept for b, kept in raw["heads"].items()}
    return Plan(heads, {(b, n): kept for b, n, kept in raw["neurons"]}, raw["ranks"], raw["cost"], raw["loss"])
