"""The one flow of a model: source → canonical graph → passes (none, or the recipe's) → target → verdict → bundle."""

import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..calibration.corpus import TextFile, builtin_lines, fingerprint_of, required, texts_of
from ..errors import GateError, HeadwayWarning, UsageError
from ..manifest import Manifest, logit_columns
from ..scratch import scratch
from ..tasks import Scoring
from ..text import TextEncoder
from .capture.base import Reference
from .capture.capture import load_reference
from .check.diagnose import diagnose, padding_matters, parity_failure
from .check.float64_judge import Run, settled
from .check.parity import Case, Parity, compare
from .check.verification_text import Answered, answers, verification_cases
from .compress.budget import at_other_lengths, check_budget, check_quality
from .compress.job import Clock, Job, Step, as_function, begin_job, summarize, write_plots
from .compress.kept_graph import GraphStore
from .compress.samples import divide_files
from .compress.source_integers import hold_for_target, kind_of_answers, read_as_floats, with_integers
from .compress.source_texts import read_source_texts
from .compress.steps import run_pass
from .compress.stopwatch import Stopwatch
from .compress.vocabulary_steps import check_scripts_of
from .compress.work import Work, default_folder
from .graph.anatomy import describe, read_anatomy
from .graph.quantized import is_quantized, rounds_activations
from .publish.assemble import build_manifest, check_size, finish, tensor_info
from .publish.staging import staged
from .recipe.recipe import Recipe
from .recipe.task_fit import fitted_to_task
from .source.config import check_config
from .source.scoring import scoring_of
from .source.source import Source, open_source
from .source.tokenizer import check_embedded, source_encoder
from .targets.base import Target, Text, check_available
from .targets.registry import target_of

STEPS = (
    "read the source",
    "capture the graph",
    "canonicalize",
    "lower and write",
    "run the source on text",
    "verify",
    "finish the bundle",
)


@dataclass
class Exported:
    """What an export made."""

    path: Path
    manifest: Manifest
    parity: Parity
    source_bytes: int
    artifact_bytes: int


def export(
    recipe: Recipe,
    out: Path,
    *,
    force: bool = False,
    allow_pickle: bool = False,
    work: Path | None = None,
    on_step: Step = lambda *_, **__: None,
) -> Exported:
    """Make a verified bundle at `out`, or raise and leave `out` as it was.

    Without passes the artifact has to give the source's answers. With passes two verdicts are needed: the artifact gives the
    answers of the compressed graph, and that graph has lost at most `max_drop` points on held-out text.

    Raises SourceError (unreadable or unsupported source), UsageError (output, or passes without text), GateError (parity, size or
    quality) and TargetError, each with its exit code. `work` is the folder that keeps what passes learn, in the user's cache where it
    is None. `on_step` is called with the name of each step as it begins; a long
    step passes `of` and `at`, its length and how far it is.
    """
    if recipe.passes:
        required(recipe.files, "compression")
    target = target_of(recipe)
    check_available(target)
    with staged(out, force=force) as staging:
        on_step(STEPS[0])
        source = open_source(recipe.source, task=recipe.task, allow_pickle=allow_pickle, adapters=recipe.adapters)
        recipe = fitted_to_task(recipe, source.task)
        target = target_of(recipe)
        kept = Work(work or default_folder())
        flow = Flow(recipe, target, source, read_text(recipe, source), staging, out.resolve(), on_step, kept)
        built = _build(flow)
        if not built.parity.ok and built.repeated:
            built = _build(flow, every_layer=True)
        if not built.parity.ok:
            if built.job is None:
                built.parity.first_divergence = diagnose(built.source, target, built.text, built.cases, built.parity)
            raise GateError(parity_failure(built.parity))
        artifact_bytes = publish(flow, built)
    return Exported(out, built.manifest, built.parity, built.manifest.source["bytes"], artifact_bytes)


@dataclass(frozen=True)
class Flow:
    """What one export is asked for, and where its files go: `staging` becomes `out`."""

    recipe: Recipe
    target: Target
    source: Source
    files: list[TextFile]
    staging: Path
    out: Path
    step: Step
    work: Work

    @property
    def texts(self) -> list[str]:
        """The texts of all files."""
        return texts_of(self.files)

    @property
    def choices(self) -> int:
        """How many choices a text is given with; 0 where the model takes none."""
        return 2 if self.source.task == "multiple-choice" else 0

    def cases(self, encoder: TextEncoder, loaded: Source) -> list[Case]:
        """Return the batches that parity is judged on."""
        return verification_cases(encoder, self.texts, loaded, self.staging)


@dataclass
class SourceGraph:
    """The canonical graph of a source, and the source's own answers while they are computed.

    `weights`: the values of the captured graph that hold weights. `repeated`: layers were taken to be equal. `regroup`: answers
    do not depend on how far a batch is padded; known once the answers are. `empty_rows`: it answers rows without a token as they do.
    """

    model: ir.Model
    source: Source
    reference: Reference
    weights: list[ir.Value]
    repeated: bool
    encoder: TextEncoder
    cases: list[Case]
    answers: Future[Answered]
    per_token: list[str]
    store: GraphStore
    regroup: bool = True
    empty_rows: bool = True


@dataclass
class Compressed:
    """What the passes made of a graph, and the answers that its artifact has to give."""

    job: Job
    cases: list[Case]
    answers: list[dict[str, np.ndarray]]


@dataclass
class Built:
    """A written artifact, and how its answers compare."""

    manifest: Manifest
    source: Source
    text: Text
    cases: list[Case]
    parity: Parity
    repeated: bool
    job: Job | None


def read_text(recipe: Recipe, source: Source) -> list[TextFile]:
    """Return the texts of each file, and for passes the labels that come with them."""
    if not recipe.passes:
        given = read_source_texts(source, recipe.files, recipe.column, labels=False)
        return given or [TextFile("built-in text", builtin_lines())]
    files = read_source_texts(source, recipe.files, recipe.column)
    if source.task == "multiple-choice":
        raise UsageError("multiple-choice models are exported, but not compressed yet")
    # What is refused here would be refused anyway, but after minutes of tracing and measuring.
    divide_files(files, recipe.calibration, choosing=recipe.chooses)
    check_scripts_of(source, recipe.passes)
    return files


def _build(flow: Flow, *, every_layer: bool = False) -> Built:
    """Capture the source, apply the passes, write the artifact and compare it. `every_layer`: trace each by itself."""
    # Hashing and the source's own answers run in native code, beside the Python work.
    with ThreadPoolExecutor(1) as beside:
        identity = beside.submit(getattr, flow.source, "fingerprint")
        graph = capture_graph(flow, beside, every_layer=every_layer)
        compressed = _compress(flow, graph, identity) if flow.recipe.passes else None
    return build_artifact(flow, graph, compressed, identity)


def build_artifact(flow: Flow, graph: SourceGraph, compressed: Compressed | None, identity: Future[str]) -> Built:
    """Write the artifact into the flow's staging directory, and compare its answers. The graph's weights are let go."""
    target, recipe = flow.target, flow.recipe
    job = compressed.job if compressed else None
    model, encoder = (job.outcome.model, job.encoder) if job else (graph.model, graph.encoder)
    described = describe(read_anatomy(model))
    inputs, outputs = ([tensor_info(v) for v in values] for values in (model.graph.inputs, model.graph.outputs))
    flow.step(STEPS[3])
    quantized = is_quantized(model)
    # Weights that came as integers are the same numbers in the artifact: float activations have to agree as floats do.
    dtype = "int8" if quantized and (job or rounds_activations(model)) else target.dtype
    text = Text(encoder, job.given.texts if job else flow.texts, flow.choices)
    lowering = target.lower(model, read_anatomy(model), text)
    target.build(model, flow.staging, text)
    expected = compressed.answers if compressed else source_answers(flow, graph)
    cases = compressed.cases if compressed else graph.cases
    _release(graph, model)
    flow.step(STEPS[5])
    options = target.options(regroup=graph.regroup)
    runner = target.open(flow.staging, options)
    parity = _compared(flow, graph, compressed, cases, expected, runner.run, dtype)
    if job and quantized and parity.ok:  # the integers of the artifact are judged, not the graph that stands for them
        judged = job.given.quality.judge(runner.run, encoder, job.outcome.kept_tokens)
        job.outcome.stages[-1].set_judged(judged)
        check_quality(job)
    manifest = build_manifest(
        recipe,
        target,
        graph.source,
        job.given.source_fingerprint if job else identity.result(),
        fingerprint_of(flow.files),
        tokenizer=encoder.info,
        inputs=inputs,
        outputs=outputs,
        options=options,
        anatomy=described,
        lowering=lowering,
        parity=parity,
    )
    return Built(manifest, graph.source, text, cases, parity, graph.repeated, job)


def _compared(
    flow: Flow,
    graph: SourceGraph,
    compressed: Compressed | None,
    cases: list[Case],
    expected: list[dict[str, np.ndarray]],
    run: Run,
    dtype: str,
) -> Parity:
    """Compare an artifact with the compressed graph, or with the source, beside which float64 decides where float32 cannot."""
    judge = "the compressed graph" if compressed else graph.reference.judge
    tolerance, per_token = flow.recipe.tolerance, graph.per_token
    parity = compare(cases, expected, run, per_token=per_token, dtype=dtype, tolerance=tolerance, judge=judge)
    if compressed:
        return replace(parity, empty_rows=parity.empty_rows and graph.empty_rows)
    return settled(
        parity, cases, expected, run, per_token=per_token, open_reference=lambda: load_reference(graph.source)[0]
    )


def capture_graph(flow: Flow, beside: ThreadPoolExecutor, *, every_layer: bool) -> SourceGraph:
    """Return the canonical graph; the source begins to answer the cases beside it."""
    flow.step(STEPS[1])
    store = GraphStore(flow.source, flow.work if flow.recipe.passes else Work(None), whole=every_layer)
    captured = store.capture()
    weights = list(captured.model.graph.initializers.values())
    encoder = source_encoder(captured.source, flow.staging)
    cases = flow.cases(encoder, captured.source)
    expected = beside.submit(answers, captured.reference, cases)
    flow.step(STEPS[2])
    canonical = store.canonical(captured)
    model = canonical.model
    captured.source = with_integers(captured.source, canonical, flow.target.spec, passes=bool(flow.recipe.passes))
    hold_for_target(model, captured.source.spec, flow.target.spec)
    anatomy = read_anatomy(model)
    check_config(captured.source, anatomy)
    if (rows := anatomy.vocabulary) is not None:
        check_embedded(encoder, rows, captured.source.spec, f"the graph has {rows} embeddings")
    per_token = [o.name for o in map(tensor_info, model.graph.outputs) if "sequence" in o.shape]
    return SourceGraph(
        model,
        captured.source,
        captured.reference,
        weights,
        captured.repeated,
        encoder,
        cases,
        expected,
        per_token,
        store,
    )


def source_answers(flow: Flow, graph: SourceGraph) -> list[dict[str, np.ndarray]]:
    """Wait for the source's answers."""
    flow.step(STEPS[4])
    answered = graph.answers.result()
    for sentence in answered.sentences:
        warnings.warn(f"{graph.source.spec}: {sentence}", HeadwayWarning, stacklevel=2)
    graph.cases = answered.cases
    graph.regroup = not (graph.source.reads_padding or padding_matters(answered.outputs, graph.cases, graph.per_token))
    return answered.outputs


def _release(graph: SourceGraph, model: ir.Model) -> None:
    """Give the memory of the source back before the runtime takes as much again.

    The weights are let go one by one, since torch's and onnxscript's caches keep references to modules and values.
    """
    graph.reference.close()
    for value in [*graph.weights, *model.graph.initializers.values()]:
        value.const_value = None


def begin_passes(flow: Flow, graph: SourceGraph, identity: Future[str], folder: Path, clock: Clock = Stopwatch) -> Job:
    """Return the job that passes work on, its source measured in `folder` by `clock`. GateError where the graph is not the source."""
    recipe, model = flow.recipe, graph.model
    expected = source_answers(flow, graph)
    for value in model.graph.initializers.values():  # the reference, which lets go of its weights, lent them
        if value.const_value is not None:
            value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)
    graph.reference.close()
    if is_quantized(model) and any(spec.kind != "quantize" for spec in recipe.passes):
        read_as_floats(model, graph.source.spec)
    run = as_function(model)
    dtype = kind_of_answers(graph.source)
    parity = compare(graph.cases, expected, run, per_token=graph.per_token, dtype=dtype, tolerance=recipe.tolerance)
    if not parity.ok:
        raise GateError(parity_failure(parity) + graph.store.drop())
    graph.empty_rows = parity.empty_rows
    files, source_fingerprint = flow.files, identity.result()
    if graph.source.kind == "factory":  # its config, and with it its classes, are known only now
        files = read_source_texts(graph.source, recipe.files, recipe.column)
        source_fingerprint = graph.source.fingerprint
    flow.step("measure the source")
    return begin_job(
        recipe,
        flow.target,
        model,
        graph.encoder,
        source_fingerprint,
        files,
        staging=flow.staging,
        out=flow.out,
        folder=folder,
        step=flow.step,
        work=flow.work,
        scoring=_scoring(graph),
        task=graph.source.task,
        clock=clock,
    )


def _compress(flow: Flow, graph: SourceGraph, identity: Future[str]) -> Compressed:
    """Apply the recipe's passes, each measured. GateError where the graph is not the source, or where too much is lost."""
    with scratch() as folder:
        job = begin_passes(flow, graph, identity, Path(folder))
        for spec in flow.recipe.passes:
            run_pass(job, spec)
        check_quality(job)
        check_budget(job)
        job.learned.other_lengths = at_other_lengths(job)
    return as_compressed(flow, graph, job)


def as_compressed(flow: Flow, graph: SourceGraph, job: Job) -> Compressed:
    """Return what the passes of a job made, with the answers that its artifact has to give."""
    cases, run = flow.cases(job.encoder, graph.source), as_function(job.outcome.model)
    return Compressed(job, cases, [{k: v.copy() for k, v in run(c.feeds).items()} for c in cases])


def _scoring(graph: SourceGraph) -> Scoring | None:
    """Return how the logits of a graph are read; their number decides."""
    return scoring_of(graph.source, logit_columns([tensor_info(v) for v in graph.model.graph.outputs]))


def publish(flow: Flow, built: Built) -> int:
    """Make the bundle whole; return the bytes of its artifact. GateError where they are more than the recipe allows."""
    flow.step(STEPS[6])
    artifact_bytes = check_size(flow.target.files(flow.staging), flow.recipe)
    manifest, job = built.manifest, built.job
    manifest.engine = flow.target.record(flow.staging)
    if job is not None:
        manifest.compression = summarize(job)
        write_plots(job, flow.staging)
    passes = job.outcome.passes if job is not None else []
    made_by = flow.recipe.model_copy(update={"task": built.source.task, "passes": passes})
    kept_tokens = job.outcome.kept_tokens if job else None
    undone = built.source.checkpoint.config if built.source.checkpoint is not None else None
    finish(flow.staging, manifest, made_by, flow.target, built.source.directory, kept_tokens, undone)
    return artifact_bytes
