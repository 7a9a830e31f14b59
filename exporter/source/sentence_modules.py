"""Read what sentence-transformers saved of a model: its modules, each with its own config, and the class that opens them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import SourceError
from ...json_file import read_json

MODULES = "modules.json"
MODEL_CONFIG = "config_sentence_transformers.json"

TRANSFORMER_CONFIGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
"""Where the Transformer module keeps its settings; the first one that is there counts."""

_CONFIGS = {"WordEmbeddings": "wordembedding_config.json", "LSTM": "lstm_config.json", "CNN": "cnn_config.json"}
"""Where other modules keep their settings, by kind; those that are not named have a config.json."""


@dataclass(frozen=True)
class SentenceModule:
    """One entry of modules.json. `file` is the file of its settings, `config`; it need not exist."""

    type: str
    folder: Path
    file: Path
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The name of the class, as `Pooling`."""
        return self.type.rsplit(".", 1)[-1]

    @property
    def tokenizer_settings(self) -> dict[str, Any]:
        """What the module's tokenizer is loaded with, beside its own files."""
        return dict(self.config.get("processor_kwargs") or self.config.get("tokenizer_args") or {})


def read_modules(directory: Path) -> tuple[SentenceModule, ...]:
    """Return the modules in order; none where the directory is not one of sentence-transformers. SourceError names a bad entry."""
    path = directory / MODULES
    if not path.is_file():
        return ()
    modules = []
    for entry in _entries(path):
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            raise SourceError(f"{path}: not a list of sentence-transformers modules: {entry!r} has no type")
        place = entry.get("path", "")
        if not isinstance(place, str) or PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
            raise SourceError(
                f"{path}: the path {place!r} is outside the directory: give the module a folder inside it"
            )
        folder = directory / place
        kind = entry["type"].rsplit(".", 1)[-1]
        names = TRANSFORMER_CONFIGS if kind.endswith("Transformer") else (_CONFIGS.get(kind, "config.json"),)
        file = next((folder / name for name in names if (folder / name).is_file()), folder / names[0])
        modules.append(SentenceModule(entry["type"], folder, file, read_json(file) if file.is_file() else {}))
    if not modules:
        raise SourceError(f"{path}: lists no module: save the model again")
    return tuple(modules)


def _entries(path: Path) -> list[Any]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path}: not a list of sentence-transformers modules ({error})") from error
    if not isinstance(listed, list):
        raise SourceError(f"{path}: not a list of sentence-transformers modules")
    return listed


def library_class(directory: Path, config: Mapping[str, Any], modules: tuple[SentenceModule, ...]) -> str | None:
    """Return the class of sentence-transformers that a directory was saved by, as `SentenceTransformer`; None for another's.

    Cross-encoders of older versions have no modules.json, but an activation in config.json.
    """
    if modules:
        file = directory / MODEL_CONFIG
        return str((read_json(file) if file.is_file() else {}).get("model_type") or "SentenceTransformer")
    if config.get("sbert_ce_default_activation_function") or config.get("sentence_transformers"):
        return "CrossEncoder"
    return None


def prompts_of(directory: Path | None) -> dict[str, str]:
    """Return the prompts of a directory of sentence-transformers by name; none where it has none. SourceError where they are no texts."""
    path = directory / MODEL_CONFIG if directory is not None else None
    prompts = read_json(path).get("prompts") if path is not None and path.is_file() else None
    if not prompts:
        return {}
    if not isinstance(prompts, dict) or not all(isinstance(t, str) for t in prompts.values()):
        raise SourceError(f"{path}: prompts are texts by name, not {str(prompts)[:60]}")
    return {str(name): text for name, text in prompts.items() if text}
