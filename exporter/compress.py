"""Export with passes: source → canonical graph → passes, each measured → target → verdict → bundle. Imports torch."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from ..calibration.batches import Batch, check_known, make_batches
from ..calibration.evidence import Evidence, collect, sites
from ..calibration.text import fingerprint, read_labelled
from . import recipe as r
from . import verify
from .bundle import TextEncoder
from .capture import capture
from .errors import GateError, UsageError
from .export import (
    Exported,
    build_manifest,
    check_config,
    describe,
    finish,
    padding_matters,
    parity_failure,
    tensor_info,
)
from .graph.anatomy import Anatomy, read_anatomy
from .graph.canonical import canonicalise
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
from .source import open_source, read_json
from .staging import staged
from .targets import ort
from .tokenizer import load_tokenizer, save_tokenizer

MOST_TOKENS = 32_768
"""Calibration text beyond this many tokens changes nothing and takes time."""

_HELD_OUT = 256
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


def compress(
    recipe: r.Recipe,
    out: Path,
    *,
    force: bool = False,
    allow_pickle: bool = False,
    on_step: Step = lambda *_, **__: None,
) -> Exported:
    """Makes a verified, compressed bundle at `out`, or raises and leaves `out` as it was.

    Two verdicts are needed: the artifact computes what the compressed graph computes, to the tolerance of its dtype; and
    the compressed graph has lost at most `max_drop` points on held-out text. Raises as `export` does, and UsageError where
    the recipe names no text.
    """
    if recipe.data is None:
        raise UsageError(
            "compression learns from text: give --data FILE (txt, csv or jsonl), a few hundred lines like production's"
        )
    with staged(out, force=force) as staging, tempfile.TemporaryDirectory() as folder:
        on_step("read the source")
        source = open_source(recipe.source, task=recipe.task, allow_pickle=allow_pickle)
        texts, labels = read_labelled(recipe.data, _class_names(source.config))
        if source.task == "multiple-choice":
            raise UsageError("multiple-choice models are exported, but not compressed yet")
        on_step("capture the graph")
        captured = capture(source)
        source = captured.source
        info = save_tokenizer(load_tokenizer(source.directory), source.longest, staging)
        encoder = TextEncoder(staging / info.file, info)
        cases = verify.make_cases(encoder, texts, info.max_length, info.pad_id)
        expected = [captured.reference.run(c.feeds) for c in cases]
        on_step("canonicalise")
        model = canonicalise(captured.model, longest=source.positions).model
        _take_over(model)
        captured.reference.close()
        check_config(source, read_anatomy(model))
        outputs = [tensor_info(v) for v in model.graph.outputs]
        per_token = [o.name for o in outputs if "sequence" in o.shape]
        _check_parity(model, cases, expected, per_token, recipe.tolerance)
        regroup = not padding_matters(expected, cases, per_token)
        learn, judge = _divide(len(texts), recipe.calibration)
        batches = make_batches(
            encoder,
            [texts[i] for i in learn],
            longest=info.max_length,
            most_tokens=MOST_TOKENS,
            seed=recipe.calibration.seed,
        )
        _check_text(encoder, batches)
        quality = Quality([texts[i] for i in judge], info.max_length, labels[judge] if labels is not None else None)
        quality.learn(_runs(model), encoder)
        on_step("measure the source")
        lengths = np.concatenate([b.mask.sum(axis=-1).ravel() for b in batches])
        shapes = tuple(recipe.work.shapes)
        workload = (
            Workload(shapes, recipe.work.threads) if shapes else Workload.of(lengths, threads=recipe.work.threads)
        )
        if max(n for _, n in workload.shapes) > info.max_length:
            raise UsageError(
                f"a batch of {max(n for _, n in workload.shapes)} tokens is longer than the model's {info.max_length}"
            )
        baseline = open_model(model.clone(), Path(folder) / "baseline", workload.threads)
        job = Job(
            recipe,
            model.clone(),
            model,
            encoder,
            batches,
            [texts[i] for i in np.setdiff1d(np.arange(len(texts)), judge if len(texts) >= 10 else [])],
            labels[learn] if labels is not None else None,
            workload,
            quality,
            baseline,
            Path(folder),
            source.fingerprint,
            fingerprint(texts),
            on_step,
            out.resolve(),
        )
        job.stages.append(job.measure("source", {}))
        for spec in recipe.passes:
            _run_pass(job, spec, staging)
        last = job.stages[-1]
        drop = quality.source - last.quality
        if drop > recipe.max_drop:
            raise GateError(
                f"{drop:.2f} points of {quality.metric} were lost on held-out text, {recipe.max_drop:g} are allowed: ask for "
                "less, add --recover, or raise --max-drop if the loss is acceptable. Nothing was written"
            )
        on_step("lower and write")
        described = describe(job.anatomy)
        final = [verify.Case(c.name, c.feeds) for c in cases]
        if job.kept_tokens is not None:
            encoder = job.encoder
            final = verify.make_cases(encoder, texts, info.max_length, encoder.info.pad_id)
        with torch.no_grad():
            graph = TorchGraph(job.model)
            wanted = [{k: t.numpy().copy() for k, t in graph(c.feeds).items()} for c in final]
        inputs, outputs = ([tensor_info(v) for v in vs] for vs in (job.model.graph.inputs, job.model.graph.outputs))
        fusions = ort.lower(job.model, read_anatomy(job.model))
        ort.write(job.model, staging)
        on_step("verify")
        options = ort.session_options(regroup=regroup)
        runner = ort.open_runner(staging / ort.MODEL_FILE, options)
        parity = verify.compare(final, wanted, runner.run, per_token=per_token, tolerance=recipe.tolerance)
        if not parity.ok:
            raise GateError(parity_failure(parity))
        artifact_bytes = sum(p.stat().st_size for p in ort.files(staging))
        if recipe.max_mb is not None and artifact_bytes > recipe.max_mb * 1e6:
            raise GateError(
                f"the artifact has {artifact_bytes / 1e6:.1f} MB, {artifact_bytes / 1e6 - recipe.max_mb:.1f} MB over max_mb"
            )
        on_step("finish the bundle")
        manifest = build_manifest(
            recipe,
            source,
            job.fingerprint,
            job.text,
            tokenizer=job.encoder.info,
            inputs=inputs,
            outputs=outputs,
            options=options,
            anatomy=described,
            lowering=fusions.as_dict(),
            parity=parity,
        )
        manifest.compression = _summary(job)
        _plots(job, staging)
        finish(staging, manifest, recipe.model_copy(update={"task": source.task}), source.directory)
        if job.kept_tokens is not None:
            _trimmed_config(staging, job.kept_tokens, manifest)
    return Exported(out, manifest, parity, manifest.source["bytes"], artifact_bytes)


def _class_names(config: Mapping[str, Any]) -> dict[str, int]:
    """Classes of a text classifier by name. A config that names none has two, as transformers reads it."""
    if not any(str(a).endswith("ForSequenceClassification") for a in config.get("architectures") or []):
        return {}
    named = config.get("id2label") or {0: "LABEL_0", 1: "LABEL_1"}
    return {str(name): int(number) for number, name in named.items()}


def _take_over(model: ir.Model) -> None:
    """Weights become arrays of their own right: the reference that they came with lets go of its."""
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)


def _check_parity(
    model: ir.Model,
    cases: list[verify.Case],
    expected: list[dict[str, np.ndarray]],
    per_token: list[str],
    tolerance: float | None,
) -> None:
    """The graph that passes work on has to be the source, before anything is removed."""
    parity = verify.compare(cases, expected, _runs(model), per_token=per_token, tolerance=tolerance)
    if not parity.ok:
        raise GateError(parity_failure(parity))


def _runs(model: ir.Model) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    graph = TorchGraph(model)

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {k: t.numpy() for k, t in graph(feeds).items()}

    return run


def _divide(count: int, settings: r.Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Texts to learn from and texts to judge by: a fifth, at most 256, are held out. Of fewer than ten, all serve both."""
    order = np.random.default_rng(settings.seed).permutation(count)
    if count < 10:
        return order, order
    held = min(_HELD_OUT, count // 5)
    return order[held:][: settings.samples], order[:held]


def _check_text(encoder: TextEncoder, batches: Sequence[Batch]) -> None:
    tokenizer = encoder.tokenizer
    special = [i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special]
    unknown = next((tokenizer.token_to_id(t) for t in ("[UNK]", "<unk>") if tokenizer.token_to_id(t) is not None), None)
    check_known(batches, special, unknown)


def _run_pass(job: Job, spec: Any, staging: Path) -> None:
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


def _trimmed_config(staging: Path, kept: Sequence[int], manifest: Any) -> None:
    """The config that travels along has the new vocabulary."""
    from .bundle import MANIFEST, file_records
    from .passes.vocabulary import trimmed_config

    path = staging / "config.json"
    if path.is_file():
        path.write_text(json.dumps(trimmed_config(read_json(path), kept), indent=2) + "\n", encoding="utf-8")
        manifest.files = file_records(staging)
        (staging / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")


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


def _summary(job: Job) -> dict[str, Any]:
    first, last = job.stages[0], job.stages[-1]
    return {
        "workload": {"shapes": [list(s) for s in job.workload.shapes], "threads": job.workload.threads},
        "metric": job.quality.metric,
        "held_out": len(job.quality.texts),
        "source_quality": job.quality.source,
        "speedup": first.ms / last.ms,
        "stages": [asdict(s) for s in job.stages],
        "reports": [p.to_json() for p in job.reports],
        "evidence": job.learned,
        "expected_ms": job.plan.cost + job.table.rest if job.plan is not None and job.table is not None else None,
        "machine": job.table.machine if job.table is not None else None,
    }


def _plots(job: Job, staging: Path) -> None:
    from .report import plot_losses, plot_stages

    (staging / "plots").mkdir(exist_ok=True)
    plot_stages([asdict(s) for s in job.stages], job.quality.metric, staging / "plots" / "passes.png")
    if job.recovery is not None:
        plot_losses(job.recovery.losses, staging / "plots" / "recovery.png")
