"""The way a model takes: source → canonical graph → target → verdict → bundle."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ..calibration.text import builtin_lines, fingerprint, read_lines
from . import verify
from .bundle import SCHEMA_VERSION, Manifest, TensorInfo, TokenizerInfo
from .capture import Reference, capture
from .card import seal
from .errors import GateError, SourceError, TargetError
from .graph.anatomy import Anatomy, read_anatomy
from .graph.canonical import canonicalise
from .graph.quantized import is_quantized
from .json_file import read_json
from .licence import LICENCE_FILES, declared_licence
from .recipe import Recipe
from .source import Source, open_source
from .staging import staged
from .targets import ort
from .targets.target import Target, Text, target_of
from .tokenizer import source_encoder

STEPS = (
    "read the source",
    "capture the graph",
    "canonicalise",
    "lower and write",
    "run the source on text",
    "verify",
    "finish the bundle",
)
_LIBRARIES = ("headway", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "tokenizers", "torch", "transformers")

Step = Callable[[str], None]


@dataclass
class Exported:
    """What an export made."""

    path: Path
    manifest: Manifest
    parity: verify.Parity
    source_bytes: int
    artifact_bytes: int


def export(
    recipe: Recipe, out: Path, *, force: bool = False, allow_pickle: bool = False, on_step: Step = lambda _: None
) -> Exported:
    """Makes a verified bundle at `out`, or raises and leaves `out` as it was.

    Raises SourceError (unreadable or unsupported source), UsageError (output), GateError (parity or size), each with its
    exit code. `on_step` is told each of `STEPS` as it begins.
    """
    target = target_of(recipe)
    check_available(target)
    with staged(out, force=force) as staging:
        on_step(STEPS[0])
        source = open_source(recipe.source, task=recipe.task, allow_pickle=allow_pickle)
        lines = read_lines(recipe.data, recipe.column) if recipe.data else builtin_lines()
        built = _build(recipe, source, target, lines, staging, on_step)
        if not built.parity.ok and built.repeated:
            built = _build(recipe, source, target, lines, staging, on_step, whole=True)
        if not built.parity.ok:
            built.parity.first_divergence = diagnose(built.source, target, built.text, built.cases, built.parity)
            raise GateError(parity_failure(built.parity))
        on_step(STEPS[6])
        artifact_bytes = check_size(target.files(staging), recipe)
        manifest = built.manifest
        manifest.engine = target.record(staging)
        finish(staging, manifest, recipe.model_copy(update={"task": source.task}), built.source.directory)
    return Exported(out, manifest, built.parity, manifest.source["bytes"], artifact_bytes)


@dataclass
class _Built:
    """What one pass from source to verified artifact found out."""

    manifest: Manifest
    source: Source
    text: Text
    cases: list[verify.Case]
    parity: verify.Parity
    repeated: bool


def _build(
    recipe: Recipe,
    source: Source,
    target: Target,
    lines: list[str],
    staging: Path,
    on_step: Step,
    *,
    whole: bool = False,
) -> _Built:
    choices = 2 if source.task == "multiple-choice" else 0
    with ThreadPoolExecutor(
        1
    ) as beside:  # hashing and the source's own answers run in native code, beside the Python work
        identity = beside.submit(getattr, source, "fingerprint")
        on_step(STEPS[1])
        captured = capture(source, whole=whole)
        source, repeated = captured.source, captured.repeated
        weights = list(captured.model.graph.initializers.values())
        encoder = source_encoder(source, staging)
        info = encoder.info
        cases = verify.make_cases(encoder, lines, info.max_length, info.pad_id, choices=choices)
        answers = beside.submit(_answers, captured.reference, cases)
        on_step(STEPS[2])
        model = canonicalise(captured.model, longest=source.positions).model
        anatomy = read_anatomy(model)
        check_config(source, anatomy)
        described = describe(anatomy)
        inputs, outputs = [tensor_info(v) for v in model.graph.inputs], [tensor_info(v) for v in model.graph.outputs]
        per_token = [o.name for o in outputs if "sequence" in o.shape]
        on_step(STEPS[3])
        dtype = "int8" if is_quantized(model) else target.dtype
        text = Text(encoder, lines, choices)
        lowering = target.lower(model, anatomy, text)
        target.build(model, staging, text)
        on_step(STEPS[4])
        expected = answers.result()
    # From here on the source is not needed: its memory goes before the runtime takes as much again. The weights are let
    # go one by one, since torch's and onnxscript's caches keep references to modules and values.
    captured.reference.close()
    for value in [*weights, *model.graph.initializers.values()]:
        value.const_value = None
    del captured, model, anatomy
    on_step(STEPS[5])
    options = target.options(regroup=not padding_matters(expected, cases, per_token))
    runner = target.open(staging, options)
    parity = verify.compare(cases, expected, runner.run, per_token=per_token, dtype=dtype, tolerance=recipe.tolerance)
    manifest = build_manifest(
        recipe,
        target,
        source,
        identity.result(),
        fingerprint(lines),
        tokenizer=info,
        inputs=inputs,
        outputs=outputs,
        options=options,
        anatomy=described,
        lowering=lowering,
        parity=parity,
    )
    return _Built(manifest, source, text, cases, parity, repeated)


def check_available(target: Target) -> None:
    """TargetError where the target cannot be built on this machine."""
    reason = target.available()
    if reason is not None:
        raise TargetError(reason)


def _answers(reference: Reference, cases: list[verify.Case]) -> list[dict[str, np.ndarray]]:
    return [reference.run(c.feeds) for c in cases]


def build_manifest(
    recipe: Recipe,
    target: Target,
    source: Source,
    source_fingerprint: str,
    text_fingerprint: str,
    *,
    tokenizer: TokenizerInfo,
    inputs: list[TensorInfo],
    outputs: list[TensorInfo],
    options: dict[str, Any],
    anatomy: dict[str, Any],
    lowering: dict[str, int],
    parity: verify.Parity,
) -> Manifest:
    """The manifest of a verified artifact; files are recorded when the bundle is finished."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        headway_version=_version("headway"),
        target=recipe.target,
        task=source.task,
        artifact=target.artifact,
        inputs=inputs,
        outputs=outputs,
        tokenizer=tokenizer,
        session_options=options,
        source={
            "kind": source.kind,
            "model_type": source.config.get("model_type"),
            "fingerprint": source_fingerprint,
            "bytes": sum(p.stat().st_size for p in source.weights) or anatomy["bytes"],
            "text_fingerprint": text_fingerprint,
            "license": declared_licence(source.directory),
        },
        anatomy=anatomy,
        lowering=lowering,
        parity=parity.to_json(),
        libraries={name: _version(name) for name in _LIBRARIES},
        labels={str(k): str(v) for k, v in (source.config.get("id2label") or {}).items()},
    )


def check_size(files: Sequence[Path], recipe: Recipe) -> int:
    """Bytes of the artifact's files; GateError where the recipe allows fewer."""
    found = sum(p.stat().st_size for p in files)
    if recipe.max_mb is not None and found > recipe.max_mb * 1e6:
        raise GateError(f"the artifact has {found / 1e6:.1f} MB, {found / 1e6 - recipe.max_mb:.1f} MB over max_mb")
    return found


def padding_matters(expected: list[dict[str, np.ndarray]], cases: list[verify.Case], per_token: list[str]) -> bool:
    """True where the source itself answers differently when a batch is padded further (MobileBERT looks at the next token)."""
    by_name = {c.name: e for c, e in zip(cases, expected, strict=True)}
    further = next(c for c in cases if "padded further" in c.name)
    mixed = next(c for c in cases if c.name.endswith("mixed lengths, padded"))
    longest = mixed.feeds["input_ids"].shape[-1]
    cut = {k: v[:, :longest] if k in per_token else v for k, v in by_name[further.name].items()}
    alone = {k: v[:, :longest] if k in per_token else v for k, v in by_name[mixed.name].items()}
    return not verify.compare([mixed], [alone], lambda _: cut, per_token=per_token).ok


def finish(
    staging: Path,
    manifest: Manifest,
    recipe: Recipe,
    directory: Path | None,
    kept_tokens: Sequence[int] | None = None,
) -> None:
    """Writes recipe, config, card and manifest; what other loaders need travels along. `kept_tokens`: of a trimmed vocabulary."""
    (staging / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    if directory is not None:
        for name in _companions(directory):
            target = staging / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((directory / name).read_bytes())
    if manifest.target == "web":
        from .targets.web import add_page

        add_page(staging, manifest)
    config = staging / "config.json"
    if kept_tokens is not None and config.is_file():
        from .passes.vocabulary import trimmed_config

        trimmed = trimmed_config(read_json(config), kept_tokens)
        config.write_text(json.dumps(trimmed, indent=2) + "\n", encoding="utf-8")
    seal(staging, manifest)


def _companions(directory: Path) -> list[str]:
    """Small files by which Optimum and sentence-transformers open the same directory, and the source's licence."""
    names = [
        "config.json",
        "modules.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        *LICENCE_FILES,
    ]
    found = [n for n in names if (directory / n).is_file()]
    return found + [p.relative_to(directory).as_posix() for p in sorted(directory.glob("[0-9]*_*/config.json"))]


def check_config(source: Source, anatomy: Anatomy) -> None:
    """Compares what the config declares with what the graph is. SourceError names the first disagreement."""
    if not source.config or not source.config.get("model_type") or not anatomy.blocks:
        return
    declared = normalized_config(source.config)
    attention = anatomy.blocks[0].attention
    pairs = (
        ("num_hidden_layers", declared.get("num_layers"), len(anatomy.blocks)),
        ("num_attention_heads", declared.get("num_attention_heads"), attention.heads if attention else 0),
    )
    for name, wanted, found in pairs:
        if wanted is not None and wanted != found and "pruned_heads" not in source.config:
            raise SourceError(f"{source.spec}: config.json says {name} = {wanted}, the graph has {found}")


def normalized_config(config: Mapping[str, Any]) -> dict[str, int]:
    """Layer and head counts under the family's own key names, as Optimum maps them."""
    from optimum.utils import NormalizedConfigManager
    from transformers import AutoConfig

    model_type = str(config.get("model_type"))
    try:
        loaded = AutoConfig.for_model(model_type, **{k: v for k, v in config.items() if k != "model_type"})
        try:
            normal = NormalizedConfigManager.get_normalized_config_class(model_type)(loaded)
        except KeyError:  # a family Optimum has no entry for: the common names
            normal = loaded
    except Exception:  # an unknown model type cannot be cross-checked
        return {}
    found = {}
    for key, names in (
        ("num_layers", ("num_layers", "num_hidden_layers")),
        ("num_attention_heads", ("num_attention_heads",)),
    ):
        value = next((getattr(normal, name) for name in names if _has(normal, name)), None)
        if isinstance(value, int):
            found[key] = value
    return found


def _has(config: Any, name: str) -> bool:
    try:  # Optimum's normalised configs raise for a name they do not map
        getattr(config, name)
    except AttributeError:
        return False
    return True


def describe(anatomy: Anatomy) -> dict[str, Any]:
    """The anatomy as plain numbers, for the manifest and `headway inspect`."""
    return {
        "parameters": anatomy.parameters,
        "bytes": anatomy.nbytes,
        "embeddings": {k: list(v) for k, v in anatomy.embeddings.items()},
        "blocks": [
            {
                "heads": b.attention.heads if b.attention else 0,
                "head_dim": b.attention.head_dim if b.attention else 0,
                "kv_heads": b.attention.kv_heads if b.attention else 0,
                "intermediate_size": [f.width for f in b.feed_forwards],
                "activation": [f.activation for f in b.feed_forwards],
                "gated": any(f.gated for f in b.feed_forwards),
                "merged_qkv": bool(b.attention and b.attention.merged),
                "disentangled": bool(b.attention and b.attention.disentangled),
                "ranks": {p.weight: p.rank for p in b.projections if p.rank is not None},
            }
            for b in anatomy.blocks
        ],
        "gflops_per_token_at_128": anatomy.flops_per_token(128) / 1e9,
    }


def diagnose(source: Source, target: Target, text: Text, cases: list[verify.Case], parity: verify.Parity) -> str | None:
    """Captures the source once more and finds the first module whose result differs: in the canonical graph, then in the lowered.

    Only run after a failure, when time and memory no longer matter.
    """
    case = next((c for c in cases if any(o.worst_case == c.name for o in parity.outputs if not o.ok)), cases[0])
    captured = capture(source)
    source = captured.source
    canonical = canonicalise(captured.model, longest=source.positions)
    names = list(canonical.sources)
    wanted = [canonical.sources[n] for n in names] if source.kind == "onnx" else names
    inside = captured.reference.inside(case.feeds, wanted)
    expected = {n: inside[w] for n, w in zip(names, wanted, strict=True) if w in inside}
    tolerance = min(o.tolerance for o in parity.outputs)
    mask = case.feeds["attention_mask"]
    for stage in ("capture", "lowering"):
        if stage == "lowering":
            target.lower(canonical.model, read_anatomy(canonical.model), text)
        found = verify.first_divergence(
            names, expected, run_inside(canonical.model, case.feeds, names), mask, tolerance
        )
        if found is not None:
            return f"{found} (in the {stage})"
    return None


def run_inside(model: ir.Model, feeds: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    """Inner values of a graph by name, as ONNX Runtime computes them; names the graph lacks are left out."""
    import tempfile

    values = ir.convenience.create_value_mapping(model.graph, include_subgraphs=False)
    known = [n for n in names if n in values]
    plugins = any("plugin_namespace" in n.attributes for n in model.graph)
    if plugins or any(v.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16) for v in values.values()):
        return _run_typed(model, feeds, {n: values[n] for n in known})
    kept = list(model.graph.outputs)
    model.graph.outputs.extend(values[n] for n in known if values[n] not in kept)
    with tempfile.TemporaryDirectory() as folder:
        ort.write(model, Path(folder))
        runner = ort.open_runner(Path(folder) / ort.MODEL_FILE, ort.session_options(regroup=False))
        found = runner.session.run(known, {n: feeds[n] for n in runner.input_names})
    del model.graph.outputs[len(kept) :]
    return dict(zip(known, found, strict=True))


def _run_typed(
    model: ir.Model, feeds: Mapping[str, np.ndarray], values: Mapping[str, ir.Value]
) -> dict[str, np.ndarray]:
    """Inner values of a graph without a runtime's own operators, each in the dtype that the graph gives it."""
    from .graph.typed_graph import TypedGraph

    graph = TypedGraph(model)
    found = graph.run(graph.feeds(feeds), values.values())
    return {name: found[value].float().numpy() for name, value in values.items()}


def parity_failure(parity: verify.Parity) -> str:
    """One sentence: which output is off, by how much, where, and from which module on."""
    worst = next(o for o in parity.outputs if not o.ok)
    where = f"; the first module that differs is {parity.first_divergence}" if parity.first_divergence else ""
    return (
        f"output {worst.name!r} differs from the source by {worst.max_abs:.3g} (allowed {worst.tolerance * max(1.0, worst.largest):.3g}) "
        f"on '{worst.worst_case}'{where}. Nothing was written"
    )


def tensor_info(value: ir.Value) -> TensorInfo:
    """Name, dtype and shape of an input or output."""
    dtype = str(value.dtype.numpy()) if value.dtype is not None else "float32"
    shape = [d if isinstance(d, int) else str(d.value) for d in value.shape] if value.shape is not None else []
    return TensorInfo(str(value.name), dtype, shape)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
