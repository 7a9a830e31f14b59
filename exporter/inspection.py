"""`headway inspect` and `headway verify`: what a model is made of, and whether a bundle still agrees with its source."""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ..calibration.batches import make_batches
from ..calibration.text import builtin_lines, fingerprint, read_labelled, read_lines
from . import verify
from .bundle import MANIFEST, Bundle, Manifest, check_files
from .capture import Reference, capture, load_reference
from .errors import SourceError, UsageError
from .export import describe
from .graph.anatomy import read_anatomy
from .graph.canonical import canonicalise
from .graph.decompose import decompose_attention
from .latency import LatencyTable, Workload, measure_table
from .quality import Quality
from .recipe import Recipe, read_recipe
from .runner import OrtRunner, graph_of
from .source import Source, open_source
from .staging import output_folder
from .targets import ort
from .targets.target import target_of
from .tokenizer import load_tokenizer, source_encoder

_RUNS = 10
_FUSED = {"disabled_optimizers": ort.SLOW_FUSIONS}


def inspect_model(
    spec: str, *, task: str | None, length: int, time: bool, allow_pickle: bool = False
) -> dict[str, Any]:
    """The anatomy of any source or bundle as plain numbers; with `time`, the measured share of each operator kind."""
    path = Path(spec)
    if (path / MANIFEST).is_file():
        manifest = Manifest.read(path)
        if task not in (None, manifest.task):
            raise UsageError(f"{spec} is a bundle, made for {manifest.task}: leave --task out, or give its source")
        described = dict(manifest.anatomy)
        share = _bundle_share(path, manifest, length) if time else {}
        return {"model": spec, "task": manifest.task, "length": length, **described, "time_share": share}
    source, model = _canonical(spec, task, allow_pickle)
    anatomy = read_anatomy(model)
    found = {
        "model": spec,
        "task": source.task,
        "length": length,
        **describe(anatomy),
        "gflops_per_token": anatomy.flops_per_token(length) / 1e9,
    }
    found["time_share"] = {}
    if time:
        if length > source.positions:
            raise UsageError(f"--length {length} is longer than the {source.positions} tokens this model takes")
        with tempfile.TemporaryDirectory() as folder:
            # Attention is written out here, so that softmax and products are nodes of their own.
            decompose_attention(model)
            ort.write(model, Path(folder))
            found["time_share"] = op_share(Path(folder) / ort.MODEL_FILE, length)
    return found


def _bundle_share(path: Path, manifest: Manifest, length: int) -> dict[str, float]:
    """Of the graph that ONNX Runtime runs; a bundle for TensorRT has one beside its engine."""
    graph = graph_of(path / manifest.artifact)
    if not graph.is_file():
        raise UsageError(f"{path}: a bundle for {manifest.target}; --time measures what ONNX Runtime runs")
    if length > (longest := manifest.tokenizer.max_length):
        raise UsageError(f"--length {length} is longer than the {longest} tokens this model takes")
    return op_share(graph, length, manifest.session_options)


def _canonical(spec: str, task: str | None, allow_pickle: bool) -> tuple[Source, ir.Model]:
    captured = capture(open_source(spec, task=task, allow_pickle=allow_pickle))
    return captured.source, canonicalise(captured.model, longest=captured.source.positions).model


def profile_model(
    spec: str,
    *,
    task: str | None,
    data: Path | None,
    shapes: list[tuple[int, int]],
    threads: int,
    refresh: bool,
    allow_pickle: bool = False,
    on_step: Callable[..., None] = lambda *_, **__: None,
) -> LatencyTable:
    """The latency table of a source on this machine, at `shapes` or at the lengths of the text."""
    on_step("capture the graph")
    source, model = _canonical(spec, task, allow_pickle)
    widest = max((n for _, n in shapes), default=0)
    if widest > source.positions:
        raise UsageError(f"a batch of {widest} tokens is longer than the {source.positions} tokens this model takes")
    if not shapes:
        tokenizer = load_tokenizer(source.directory)
        lines = read_lines(data) if data else builtin_lines()
        lengths = [len(ids) for ids in tokenizer(lines, truncation=True, max_length=source.longest)["input_ids"]]
    workload = Workload(tuple(shapes), threads) if shapes else Workload.of(np.array(lengths), threads=threads)
    return measure_table(model, workload, ort.SPEC, refresh=refresh, on_level=on_step)


def sensitivity_of(
    spec: str,
    *,
    task: str | None,
    data: Path,
    column: str | None,
    activations: str,
    samples: int,
    out: Path,
    allow_pickle: bool = False,
    on_step: Callable[..., None] = lambda *_, **__: None,
) -> tuple[dict[str, Any], list[Path]]:
    """What rounding each group of a source's matrices to int8 costs by itself; writes JSON and a plot to `out`."""
    from .quantization import look, needs_histograms, plan
    from .recipe import Quantize
    from .report import plot_sensitivity
    from .sensitivity import effects

    on_step("capture the graph")
    source, model = _canonical(spec, task, allow_pickle)
    texts = read_lines(data, column)
    with tempfile.TemporaryDirectory() as folder:
        encoder = source_encoder(source, Path(folder))
    batches = make_batches(encoder, texts, longest=encoder.info.max_length, samples=samples)
    recipe = Quantize()
    chosen = plan(model, read_anatomy(model), recipe)
    histograms = needs_histograms(recipe, activations)
    marks = source.fingerprint, fingerprint(texts)
    seen = look(model, chosen.groups, batches, source=marks[0], text=marks[1], seed=0, histograms=histograms)
    total = len(chosen.groups)
    found = effects(
        model,
        chosen,
        seen,
        recipe,
        batches,
        activations=activations,
        signed=False,
        on_group=lambda name: on_step(f"round {name}", of=total),
    )
    content = {
        "model": spec,
        "activations": activations,
        "observations": seen.describe(),
        "groups": [
            {"name": e.group.name, "error": e.error, "matrices": list(e.group.matrices), "multiply_adds": e.group.cost}
            for e in found
        ],
    }
    (output_folder(out) / "sensitivity.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    plot_sensitivity(content["groups"], out / "sensitivity.png")  # type: ignore[arg-type]
    return content, [out / "sensitivity.json", out / "sensitivity.png"]


def op_share(model: Path, length: int, options: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Measured share of time by operator kind on one thread, largest first; the shares sum to 1.

    From ONNX Runtime's own profile of ten runs on `[1, length]` ids; a run before them is left out. `options` as a bundle's
    runner takes them.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = options or ort.session_options(regroup=False)
        session = OrtRunner(model, settings, threads=1, profile=Path(folder) / "profile").session
        fill = {"attention_mask": 1, "token_type_ids": 0}
        feeds = {
            i.name: np.full((*[1] * (len(i.shape) - 1), length), fill.get(i.name, 5), np.int64)
            for i in session.get_inputs()
        }
        for _ in range(_RUNS + 1):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    per_run = len(kernels) // (_RUNS + 1)
    spent: Counter[str] = Counter()
    for event in kernels[per_run:]:
        spent[event["args"]["op_name"]] += event["dur"]
    total = sum(spent.values()) or 1
    return {name: micros / total for name, micros in spent.most_common()}


@dataclass(frozen=True)
class Verdict:
    """What a comparison with the source found: parity, or for a compressed bundle points of quality (now, source, recorded)."""

    ok: bool
    parity: verify.Parity | None
    metric: str | None = None
    quality: float | None = None
    source_quality: float | None = None
    recorded: float | None = None

    def to_json(self) -> dict[str, object]:
        if self.parity is not None:
            return self.parity.to_json()
        names = ("ok", "metric", "quality", "source_quality", "recorded")
        return {n: getattr(self, n) for n in names}


def verify_bundle(
    path: Path,
    against: str | None,
    data: Path | None,
    *,
    allow_pickle: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Compares a bundle with its source again. Raises SourceError where a file was changed or the source is another model."""
    on_step("read the bundle")
    manifest = Manifest.read(path)
    check_files(path, manifest)
    bundle = _opened(path, manifest)
    info, encoder = bundle.manifest.tokenizer, bundle.encoder
    recipe = read_recipe(path / "recipe.yaml")
    spec = against or recipe.source
    on_step("load the source")
    source = open_source(spec, task=bundle.manifest.task, allow_pickle=allow_pickle)
    if source.fingerprint != bundle.manifest.source["fingerprint"] and source.kind != "factory":
        raise SourceError(f"{spec} is not the model that {path} was made from: its fingerprint differs")
    reference, source = load_reference(source)
    on_step("run the source on text")
    if bundle.manifest.compression is not None:
        return _verify_compressed(bundle, source, reference, recipe, data)
    lines = read_lines(data or recipe.data, None if data else recipe.column) if data or recipe.data else builtin_lines()  # type: ignore[arg-type]
    choices = 2 if bundle.manifest.task == "multiple-choice" else 0
    cases = verify.make_cases(encoder, lines, info.max_length, info.pad_id, choices=choices)
    expected = [reference.run(c.feeds) for c in cases]
    on_step("compare")
    per_token = [o.name for o in bundle.manifest.outputs if "sequence" in o.shape]
    dtype = bundle.manifest.parity["dtype"]
    parity = verify.compare(
        cases, expected, bundle.runner.run, per_token=per_token, dtype=dtype, tolerance=recipe.tolerance
    )
    return Verdict(parity.ok, parity)


def _opened(path: Path, manifest: Manifest) -> Bundle:
    """The bundle; one for a GPU that is not here with its typed graph in place of the engine."""
    if manifest.target == "ort":
        return Bundle.open(path)
    target = target_of(read_recipe(path / "recipe.yaml"))
    return Bundle(path, manifest, target.open(path, manifest.session_options))


def _verify_compressed(
    bundle: Bundle, source: Source, reference: Reference, recipe: Recipe, data: Path | None
) -> Verdict:
    """A compressed bundle is another model on purpose: what counts is the quality it keeps on the text held out."""
    from .compress import class_names, divide

    assert bundle.manifest.compression is not None and recipe.data is not None
    texts, labels = read_labelled(data or recipe.data, class_names(source.config), None if data else recipe.column)
    judge = divide(len(texts), recipe.calibration)[1] if data is None else np.arange(len(texts))
    longest = bundle.encoder.info.max_length
    quality = Quality([texts[i] for i in judge], longest, labels[judge] if labels is not None else None)
    with tempfile.TemporaryDirectory() as folder:
        whole = source_encoder(source, Path(folder))
    quality.learn(reference.run, whole)
    names = sorted(bundle.encoder.tokenizer.get_vocab().items(), key=lambda item: item[1])
    kept = [i for name, _ in names if (i := whole.tokenizer.token_to_id(name)) is not None]
    points = quality.measure(bundle.runner.run, bundle.encoder, kept)
    ok = quality.source - points <= recipe.max_drop
    return Verdict(
        ok, None, quality.metric, points, quality.source, bundle.manifest.compression["stages"][-1]["quality"]
    )
