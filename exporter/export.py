"""The way a model takes: source → canonical graph → target → verdict → bundle."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..calibration.corpus import builtin_lines, fingerprint, read_lines
from ..errors import GateError
from ..manifest import Manifest
from .capture.base import Reference
from .capture.capture import capture
from .check.diagnose import diagnose, padding_matters, parity_failure
from .check.parity import Case, Parity, compare, make_cases
from .graph.anatomy import describe, read_anatomy
from .graph.canonical import canonicalize
from .graph.quantized import is_quantized
from .publish.assemble import build_manifest, check_size, finish, tensor_info
from .publish.staging import staged
from .recipe.recipe import Recipe
from .source.config import check_config
from .source.source import Source, open_source
from .source.tokenizer import source_encoder
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

Step = Callable[[str], None]


@dataclass
class Exported:
    """What an export made."""

    path: Path
    manifest: Manifest
    parity: Parity
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
    cases: list[Case]
    parity: Parity
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
        cases = make_cases(encoder, lines, info.max_length, info.pad_id, choices=choices)
        answers = beside.submit(_answers, captured.reference, cases)
        on_step(STEPS[2])
        model = canonicalize(captured.model, longest=source.positions).model
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
    parity = compare(cases, expected, runner.run, per_token=per_token, dtype=dtype, tolerance=recipe.tolerance)
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


def _answers(reference: Reference, cases: list[Case]) -> list[dict[str, np.ndarray]]:
    return [reference.run(c.feeds) for c in cases]
