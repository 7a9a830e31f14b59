"""Export with passes: source → canonical graph → passes, each measured → target → verdict → bundle. Imports torch."""

import tempfile
from pathlib import Path

import onnx_ir as ir

from ..calibration.corpus import read_labeled, required
from ..errors import GateError, UsageError
from .capture.capture import capture
from .check.diagnose import padding_matters, parity_failure
from .check.parity import compare, make_cases
from .compress.job import CapturedSource, Job, Step, begin_job, runs, summarize, write_plots
from .compress.quality import check_drop
from .compress.samples import class_names
from .compress.steps import run_pass
from .export import Exported
from .graph.anatomy import describe, read_anatomy
from .graph.canonical import canonicalize
from .graph.quantized import is_quantized
from .publish.assemble import build_manifest, check_size, finish, tensor_info
from .publish.staging import staged
from .recipe.recipe import Recipe
from .source.config import check_config
from .source.source import Source, open_source
from .source.tokenizer import source_encoder
from .targets.base import Text, check_available
from .targets.registry import target_of


def compress(
    recipe: Recipe,
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
        texts, labels = read_labeled(data, class_names(source.config), recipe.column)
        if source.task == "multiple-choice":
            raise UsageError("multiple-choice models are exported, but not compressed yet")
        on_step("capture the graph")
        whole = _capture(source, texts, staging, recipe.tolerance)
        if source.kind == "factory":  # its classes are known only now
            labels = read_labeled(data, class_names(whole.source.config), recipe.column)[1]
        on_step("measure the source")
        job = begin_job(whole, recipe, texts, labels, out.resolve(), Path(folder), on_step)
        for spec in recipe.passes:
            run_pass(job, spec, staging)
        check_drop(job.quality, job.stages[-1].quality, recipe.max_drop)
        on_step("lower and write")
        return _finish(job, whole, texts, out, staging)


def _capture(source: Source, texts: list[str], staging: Path, tolerance: float | None) -> CapturedSource:
    """The canonical graph and the tokenizer. GateError where the graph is not the source: before anything is removed."""
    captured = capture(source)
    source = captured.source
    encoder = source_encoder(source, staging)
    info = encoder.info
    cases = make_cases(encoder, texts, info.max_length, info.pad_id)
    expected = [captured.reference.run(c.feeds) for c in cases]
    model = canonicalize(captured.model, longest=source.positions).model
    for value in model.graph.initializers.values():  # the reference, which lets go of its weights, lent them
        if value.const_value is not None:
            value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)
    captured.reference.close()
    check_config(source, read_anatomy(model))
    per_token = [o.name for v in model.graph.outputs if "sequence" in (o := tensor_info(v)).shape]
    parity = compare(cases, expected, runs(model), per_token=per_token, tolerance=tolerance)
    if not parity.ok:
        raise GateError(parity_failure(parity))
    return CapturedSource(source, model, encoder, per_token, not padding_matters(expected, cases, per_token))


def _finish(job: Job, whole: CapturedSource, texts: list[str], out: Path, staging: Path) -> Exported:
    """Lowers and writes the compressed graph, compares the artifact with it, and makes the bundle whole."""
    recipe, target, info = job.recipe, job.target, job.encoder.info
    described = describe(job.anatomy)
    cases = make_cases(job.encoder, texts, info.max_length, info.pad_id)
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
    parity = compare(cases, wanted, runner.run, per_token=whole.per_token, dtype=dtype, tolerance=recipe.tolerance)
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
    manifest.compression = summarize(job)
    manifest.engine = target.record(staging)
    write_plots(job, staging)
    made_by = recipe.model_copy(update={"task": whole.source.task})
    finish(staging, manifest, made_by, whole.source.directory, job.kept_tokens)
    return Exported(out, manifest, parity, manifest.source["bytes"], artifact_bytes)
