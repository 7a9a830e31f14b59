"""Assemble a bundle: manifest, recipe, config, card and checksums."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ...errors import GateError
from ...json_file import read_json
from ...manifest import SCHEMA_VERSION, Manifest, TensorInfo, TokenizerInfo, logit_columns
from ..check.parity import Parity
from ..recipe.recipe import RECIPE_FILE, Recipe
from ..recipe.targets import TARGETS
from ..source.license import LICENSE_FILES, declared_license
from ..source.scoring import scoring_of
from ..source.sentence_modules import prompts_of, similarity_of
from ..source.source import EMBEDDING_TASKS, Source
from ..targets.base import Target
from .card import seal

_LIBRARIES = ("headway", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "tokenizers", "torch", "transformers")


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
    parity: Parity,
) -> Manifest:
    """Return the manifest of a verified artifact; files are recorded when the bundle is finished."""
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
            "license": declared_license(source.directory),
            "form": list(source.sentences),
        },
        anatomy=anatomy,
        lowering=lowering,
        parity=parity.to_json(),
        libraries={name: _version(name) for name in _LIBRARIES},
        runner=TARGETS[recipe.target].runner,
        labels={str(k): str(v) for k, v in (source.config.get("id2label") or {}).items()},
        scoring=_scoring(source, outputs),
        prompts=_prompts(source),
        sides=dict(source.sides),
        similarity=similarity_of(source.directory, source.task),
        route=source.route or "",
    )


def _prompts(source: Source) -> dict[str, str]:
    if source.prompts is not None:
        return dict(source.prompts)
    return prompts_of(source.directory) if source.task in EMBEDDING_TASKS else {}


def _scoring(source: Source, outputs: Sequence[TensorInfo]) -> dict[str, str]:
    """Return what the manifest says about scores; nothing for tasks that have none."""
    scoring = scoring_of(source, logit_columns(outputs))
    return scoring.record() if scoring is not None else {}


def check_size(files: Sequence[Path], recipe: Recipe) -> int:
    """Return the bytes of the artifact's files. Raise GateError where the recipe allows fewer."""
    nbytes = sum(p.stat().st_size for p in files)
    if recipe.max_mb is not None and nbytes > recipe.max_mb * 1e6:
        raise GateError(f"the artifact has {nbytes / 1e6:.1f} MB, {nbytes / 1e6 - recipe.max_mb:.1f} MB over max_mb")
    return nbytes


def finish(
    staging: Path,
    manifest: Manifest,
    recipe: Recipe,
    target: Target,
    directory: Path | None,
    kept_tokens: Sequence[int] | None = None,
    undone: Mapping[str, Any] | None = None,
) -> None:
    """Write recipe, config, card and manifest, and the small files of the source that other loaders need.

    `kept_tokens`: the token ids of a trimmed vocabulary. `undone`: the config of a compressed form that was undone.
    """
    (staging / RECIPE_FILE).write_text(recipe.without_places().to_yaml(), encoding="utf-8")
    if directory is not None:
        for name in _companions(directory):
            copy = staging / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((directory / name).read_bytes())
    if undone is not None and (staging / "config.json").is_file():
        (staging / "config.json").write_text(json.dumps(dict(undone), indent=2) + "\n", encoding="utf-8")
    target.finish(staging, manifest)
    config = staging / "config.json"
    if kept_tokens is not None and config.is_file():
        from ..passes.vocabulary import trimmed_config

        trimmed = trimmed_config(read_json(config), kept_tokens)
        config.write_text(json.dumps(trimmed, indent=2) + "\n", encoding="utf-8")
    seal(staging, manifest)


def _companions(directory: Path) -> list[str]:
    """Return the small files by which Optimum and sentence-transformers open the same directory, and the license files."""
    names = [
        "config.json",
        "modules.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        *LICENSE_FILES,
    ]
    present = [n for n in names if (directory / n).is_file()]
    return present + [p.relative_to(directory).as_posix() for p in sorted(directory.glob("[0-9]*_*/config.json"))]


def tensor_info(value: ir.Value) -> TensorInfo:
    """Return name, dtype and shape of an input or output."""
    dtype = str(value.dtype.numpy()) if value.dtype is not None else "float32"
    shape = [d if isinstance(d, int) else str(d.value) for d in value.shape] if value.shape is not None else []
    return TensorInfo(str(value.name), dtype, shape)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
