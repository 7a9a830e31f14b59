"""Write the source code that runs an artifact on a phone or in a page, for its own inputs, outputs, dtypes and shapes.

Each source is one small class for one text at a time: `run` takes token ids and returns every output by name, row by row as one
list with its shape. The code is in `templates/`, one file for each runner and language; `model.kt.j2` and `model.swift.j2` hold what
the classes of a language share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ....errors import UsageError
from ....manifest import Manifest
from ...recipe.targets import TARGETS, Platform, targets_for
from ..templates import environment
from .common import FOLDER, Snippet, SnippetInput, SnippetModel

_TEMPLATES = Path(__file__).parent / "templates"
_KOTLIN = {"int64": "Long", "int32": "Int"}
_SWIFT = {"int64": "Int64", "int32": "Int32"}
_CORE_ML = {"int64": "Int32", "int32": "Int32"}
"""Packages take int32 alone."""
_JAVASCRIPT = {"int64": "BigInt64Array", "int32": "Int32Array"}


@dataclass(frozen=True)
class Writer:
    """`template` makes `file`; `kinds`: the language's types by dtype; `dependencies` as in `Snippet`."""

    template: str
    file: str
    kinds: Mapping[str, str]
    dependencies: tuple[str, ...]

    def write(self, model: SnippetModel) -> Snippet:
        """Return the source for a model. Raise UsageError for an input whose dtype the language has no type for."""
        inputs = [SnippetInput.of(tensor, self.kinds) for tensor in model.inputs]
        text = _environment().get_template(self.template).render(model=model, inputs=inputs, folder=FOLDER)
        return Snippet(self.file, text, self.dependencies)


WRITERS: dict[Platform, dict[str, Writer]] = {
    "android": {
        "onnxruntime": Writer(
            "onnxruntime.kt.j2",
            "Model.kt",
            _KOTLIN,
            ('implementation("com.microsoft.onnxruntime:onnxruntime-android:latest.release")',),
        ),
        "executorch": Writer(
            "executorch.kt.j2",
            "Model.kt",
            _KOTLIN,
            ('implementation("org.pytorch:executorch-android:latest.release")',),
        ),
        "litert": Writer(
            "litert.kt.j2",
            "Model.kt",
            _KOTLIN,
            ('implementation("com.google.ai.edge.litert:litert:latest.release")',),
        ),
    },
    "ios": {
        "onnxruntime": Writer("onnxruntime.swift.j2", "Model.swift", _SWIFT, ("pod 'onnxruntime-objc'",)),
        "executorch": Writer(
            "executorch.swift.j2",
            "Model.swift",
            _SWIFT,
            (
                "Swift package github.com/pytorch/executorch: executorch, backend_xnnpack, kernels_optimized, kernels_quantized",
            ),
        ),
        "coreml": Writer("coreml.swift.j2", "Model.swift", _CORE_ML, ("CoreML is part of iOS",)),
    },
    "web": {"onnxruntime": Writer("onnxruntime.js.j2", "index.js", _JAVASCRIPT, ("onnxruntime-web",))},
}
"""By platform and runner."""


def snippet(manifest: Manifest, platform: Platform) -> Snippet:
    """Return the source for a bundle on a platform.

    Raise UsageError where the bundle's target does not run there, or a dtype is not known.
    """
    entry = TARGETS.get(manifest.target)
    if entry is None or platform not in entry.platforms:
        fitting = ", ".join(targets_for(platform))
        raise UsageError(
            f"a bundle for target {manifest.target} does not run on {platform}: export the model again with --target, one of {fitting}"
        )
    return WRITERS[platform][entry.runner].write(SnippetModel.of(manifest))


@cache
def _environment() -> Any:
    """Return the templates of snippets, with what writes literals of their languages."""
    templates = environment(_TEMPLATES)
    templates.filters |= {
        "strings": _strings,
        "kotlin_strings": lambda values: _strings(values).replace("$", "\\$"),
        "javascript_object": _javascript_object,
    }
    return templates


def _strings(values: Sequence[str]) -> str:
    """Return string literals, which Kotlin, Swift and JavaScript write alike but for `$`, which Kotlin reads."""
    return ", ".join('"' + v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"' for v in values)


def _javascript_object(config: Mapping[str, str]) -> str:
    """Return settings with dotted names as nested objects."""
    nested: dict[str, Any] = {}
    for key, value in config.items():
        *path, last = key.split(".")
        inner = nested
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return _literal(nested)


def _literal(value: Mapping[str, Any]) -> str:
    inside = ", ".join(
        f"{_strings([k])}: {_literal(v) if isinstance(v, Mapping) else _strings([str(v)])}" for k, v in value.items()
    )
    return f"{{ {inside} }}" if inside else "{}"
