"""Export with passes: source → canonical graph → passes, each measured → target → verdict → bundle. Imports torch."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ..calibration.batches import Batch, check_known, make_batches
from ..calibration.text import fingerprint, read_labelled, required
from . import recipe as r
from . import verify
from .bundle import TextEncoder
from .capture import capture
from .errors import GateError, UsageError
from .export import (
    Exported,
    build_manifest,
    check_available,
    check_config,
    check_size,
    describe,
    finish,
    padding_matters,
    parity_failure,
    tensor_info,
)
from .graph.anatomy import read_anatomy
from .graph.canonical import canonicalise
from .graph.quantized import is_quantized
from .latency import Workload, open_model
from .pipeline import Job, Step, run_pass, runs
from .quality import Quality
from .source import Source, open_source
from .staging import staged
from .targets.target import Text, target_of
from .tokenizer import source_encoder

MOST_TOKENS = 32_768
"""Calibration text beyond this many tokens changes nothing and takes time."""

_HELD_OUT = 256
_FEW = 10
"""Below so many texts none are held out: all serve to learn and to judge."""


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
    data = required(recipe.data, "compression")
    check_available(target_of(recipe))
    with staged(out, force=force) as staging, tempfile.TemporaryDirectory() as folder:
        on_step("read the source")
        source = open_source(recipe.source, task=recipe.task, allow_pickle=allow_pickle)
        texts, labels = read_labelled(data, class_names(source.config), recipe.column)
        if source.task == "multiple-choice":
            raise UsageError("multiple-choice models are exported, but not compressed yet")
        on_step("capture the graph")
        whole = _capture(source, texts, staging, recipe.tolerance)
        if source.kind == "factory":  # its classes are known only now
            labels = read_labelled(data, class_names(whole.source.config), recipe.column)[1]
        on_step("measure the source")
        job = _begin(whole, recipe, texts, labels, out.resolve(), Path(folder), on_step)
        for spec in recipe.passes:
            run_pass(job, spec, staging)
        check_drop(job.quality, job.stages[-1].quality, recipe.max_drop)
        on_step("lower and write")
        return _finish(job, whole, texts, out, staging)


@dataclass
class _Whole:
    """The source, captured and found to be the same as its graph."""

    source: Source
    model: ir.Model
    encoder: TextEncoder
    per_token: list[str]
    regroup: bool


def _capture(source: Source, texts: list[str], staging: Path, tolerance: float | None) -> _Whole:
    """The canonical graph and the tokenizer. GateError where the graph is not the source: before anything is removed."""
    captured = capture(source)
    source = captured.source
    encoder = source_encoder(source, staging)
    info = encoder.info
    cases = verify.make_cases(encoder, texts, info.max_length, info.pad_id)
    expected = [captured.reference.run(c.feeds) for c in cases]
    model = canonicalise(captured.model, longest=source.positions).model
    for value in model.graph.initializers.values():  # the reference, which lets go of its weights, lent them
        if value.const_value is not None:
            value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)
    captured.reference.close()
    check_config(source, read_anatomy(model))
    per_token = [o.name for v in model.graph.outputs if "sequence" in (o := tensor_info(v)).shape]
    parity = verify.compare(cases, expected, runs(model), per_token=per_token, tolerance=tolerance)
    if not parity.ok:
        raise GateError(parity_failure(parity))
    return _Whole(source, model, encoder, per_token, not padding_matters(expected, cases, per_token))


def _begin(
    whole: _Whole, recipe: r.Recipe, texts: list[str], labels: np.ndarray | None, out: Path, folder: Path, on_step: Step
) -> Job:
    """Divides the text, measures the source, and sets the work up."""
    encoder, model = whole.encoder, whole.model
    longest = encoder.info.max_length
    learn, judge = divide(len(texts), recipe.calibration)
    seed = recipe.calibration.seed

    def batched(encoder: TextEncoder) -> list[Batch]:
        return make_batches(encoder, [texts[i] for i in learn], longest=longest, most_tokens=MOST_TOKENS, seed=seed)

    batches = batched(encoder)
    _check_text(encoder, batches)
    quality = Quality([texts[i] for i in judge], longest, labels[judge] if labels is not None else None)
    quality.learn(runs(model), encoder)
    threads = recipe.work.threads
    lengths = np.concatenate([b.mask.sum(axis=-1).ravel() for b in batches])
    workload = (
        Workload(tuple(recipe.work.shapes), threads) if recipe.work.shapes else Workload.of(lengths, threads=threads)
    )
    widest = max(n for _, n in workload.shapes)
    if widest > longest:
        raise UsageError(f"a batch of {widest} tokens is longer than the model's {longest}")
    judged = set(judge.tolist()) if len(texts) >= _FEW else set()
    job = Job(
        recipe=recipe,
        target=target_of(recipe),
        model=model.clone(),
        source_model=model,
        encoder=encoder,
        batches=batches,
        batched=batched,
        texts=[t for i, t in enumerate(texts) if i not in judged],
        labels=labels[learn] if labels is not None else None,
        workload=workload,
        quality=quality,
        baseline=open_model(model.clone(), folder / "baseline", threads),
        folder=folder,
        fingerprint=whole.source.fingerprint,
        text=fingerprint(texts),
        step=on_step,
        out=out,
    )
    job.stages.append(job.measure("source", {}))
    return job


def check_drop(quality: Quality, points: float, most: float) -> None:
    """GateError where more than `most` points are lost."""
    drop = quality.source - points
    if drop > most:
        raise GateError(
            f"{drop:.2f} points of {quality.metric} were lost on held-out text, {most:g} are allowed: ask for less, add "
            "--recover, or raise --max-drop if the loss is acceptable. Nothing was written"
        )


def _finish(job: Job, whole: _Whole, texts: list[str], out: Path, staging: Path) -> Exported:
    """Lowers and writes the compressed graph, compares the artifact with it, and makes the bundle whole."""
    recipe, target, info = job.recipe, job.target, job.encoder.info
    described = describe(job.anatomy)
    cases = verify.make_cases(job.encoder, texts, info.max_length, info.pad_id)
    wanted = [{k: v.copy() for k, v in runs(job.model)(c.feeds).items()} for c in cases]
    inputs, outputs = ([tensor_info(v) for v in vs] for vs in (job.model.graph.inputs, job.model.graph.outputs))
    rounded = is_quantized(job.model)
    dtype = "int8" if rounded else target.dtype
    text = Text(job.encoder, job.texts)
    lowering = target.lower(job.model, read_anatomy(job.model), text)
    target.build(job.model, staging, text)
    job.step("verify")
    options = target.options(regroup=whole.regroup)
    runner = target.open(staging, options)
    parity = verify.compare(
        cases, wanted, runner.run, per_token=whole.per_token, dtype=dtype, tolerance=recipe.tolerance
    )
    if not parity.ok:
        raise GateError(parity_failure(parity))
    if rounded:
        points = job.quality.measure(runner.run, job.encoder, job.kept_tokens)
        check_drop(job.quality, points, recipe.max_drop)
        job.stages[-1].quality = points
    artifact_bytes = check_size(target.files(staging), recipe)
    job.step("finish the bundle")
    manifest = build_manifest(
        recipe,
        target,
        whole.source,
        job.fingerprint,
        job.text,
        tokenizer=info,
        inputs=inputs,
        outputs=outputs,
        options=options,
        anatomy=described,
        lowering=lowering,
        parity=parity,
    )
    manifest.compression = _summary(job)
    manifest.engine = target.record(staging)
    _plots(job, staging)
    made_by = recipe.model_copy(update={"task": whole.source.task})
    finish(staging, manifest, made_by, whole.source.directory, job.kept_tokens)
    return Exported(out, manifest, parity, manifest.source["bytes"], artifact_bytes)


def class_names(config: Mapping[str, Any]) -> dict[str, int]:
    """Classes of a text classifier by name. A config that names none has two, as transformers reads it."""
    if not any(str(a).endswith("ForSequenceClassification") for a in config.get("architectures") or []):
        return {}
    named = config.get("id2label") or {0: "LABEL_0", 1: "LABEL_1"}
    return {str(name): int(number) for number, name in named.items()}


def divide(count: int, settings: r.Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Texts to learn from and texts to judge by: a fifth, at most 256, are held out. Of very few, all serve both."""
    order = np.random.default_rng(settings.seed).permutation(count)
    if count < _FEW:
        return order, order
    held = min(_HELD_OUT, count // 5)
    return order[held:][: settings.samples], order[:held]


def _check_text(encoder: TextEncoder, batches: Sequence[Batch]) -> None:
    tokenizer = encoder.tokenizer
    special = [i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special]
    unknown = next((tokenizer.token_to_id(t) for t in ("[UNK]", "<unk>") if tokenizer.token_to_id(t) is not None), None)
    check_known(batches, special, unknown)


def _summary(job: Job) -> dict[str, Any]:
    first, last = job.stages[0], job.stages[-1]
    return {
        "workload": {"shapes": [list(s) for s in job.workload.shapes], "threads": job.workload.threads},
        "measured_in": "ONNX Runtime on a CPU",
        "metric": job.quality.metric,
        "held_out": len(job.quality.texts),
        "source_quality": job.quality.source,
        "speedup": first.ms / last.ms,
        "stages": [asdict(s) for s in job.stages],
        "reports": [p.to_json() for p in job.reports],
        "evidence": job.learned,
        "observations": job.observed,
        "sensitivity": job.sensitivity,
        "left_in_float": job.left_float,
        "expected_ms": job.plans[-1].cost + job.table.rest if job.plans and job.table is not None else None,
        "machine": job.table.machine if job.table is not None else None,
    }


def _plots(job: Job, staging: Path) -> None:
    from .report import plot_losses, plot_sensitivity, plot_stages

    (staging / "plots").mkdir(exist_ok=True)
    plot_stages([asdict(s) for s in job.stages], job.quality.metric, staging / "plots" / "passes.png")
    if job.sensitivity is not None:
        groups = [{"name": n, "error": e} for n, e in job.sensitivity.items()]
        plot_sensitivity(groups, staging / "plots" / "sensitivity.png")
    if job.recovery is not None:
        plot_losses(job.recovery.losses, staging / "plots" / "recovery.png")
