"""Read what sentence-transformers saved of a model: its modules, each with its own config, and the class that opens them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ...embeddings import SIMILARITIES
from ...errors import SourceError
from ...json_file import read_any_json, read_json
from .bounds import limit
from .stanford_colbert import is_stanford_colbert

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

STATIC = ("StaticEmbedding", "SparseStaticEmbedding")
"""Modules that look tokens up, and have no encoder. Their tokenizers add no special tokens."""

_ROUTER, _ROUTES = "Router", "router_config.json"


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
    def longest(self) -> int | None:
        """The tokens that the tokenizer of a static embedding cuts texts to; None where it cuts none."""
        file = self.folder / "tokenizer.json"
        truncation = read_json(file).get("truncation") if file.is_file() else None
        return limit(truncation.get("max_length"), file, "truncation") if isinstance(truncation, dict) else None

    @property
    def tokenizer_settings(self) -> dict[str, Any]:
        """What the module's tokenizer is loaded with, beside its own files."""
        return dict(self.config.get("processor_kwargs") or self.config.get("tokenizer_args") or {})


def read_modules(directory: Path, route: str | None = None) -> tuple[SentenceModule, ...]:
    """Return the modules in order; none where the directory is not one of sentence-transformers. SourceError names a bad entry.

    Where a Router comes first, those of its `route` are in its place.
    """
    path = directory / MODULES
    if not path.is_file():
        if route is not None:
            raise SourceError(f"{directory}: has no {MODULES}, so it has no route {route!r}: leave #{route} out")
        return ()
    modules = []
    for entry in _entries(path):
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            raise SourceError(f"{path}: not a list of sentence-transformers modules: {entry!r} has no type")
        place = entry.get("path", "")
        if (
            not isinstance(place, str)
            or "\0" in place
            or PurePosixPath(place).is_absolute()
            or ".." in PurePosixPath(place).parts
        ):
            raise SourceError(
                f"{path}: the path {place!r} is outside the directory: give the module a folder inside it"
            )
        modules.append(_module(entry["type"], directory / place))
    if not modules:
        raise SourceError(f"{path}: lists no module: save the model again")
    if modules[0].kind == _ROUTER:
        return (*_routed(modules[0].folder, route), *modules[1:])
    if route is not None:
        raise SourceError(f"{path}: begins with no Router, so it has no route {route!r}: leave #{route} out")
    return tuple(modules)


def _module(kind: str, folder: Path) -> SentenceModule:
    name = kind.rsplit(".", 1)[-1]
    names = TRANSFORMER_CONFIGS if kind.endswith("Transformer") else (_CONFIGS.get(name, "config.json"),)
    file = next((folder / name for name in names if (folder / name).is_file()), folder / names[0])
    # Of a StaticEmbedding, config.json says how another library made it, and nothing reads it.
    read = file.is_file() and not kind.endswith(".StaticEmbedding")
    return SentenceModule(kind, folder, file, read_json(file) if read else {})


def _routed(folder: Path, route: str | None) -> tuple[SentenceModule, ...]:
    """Return the modules of one route of a Router."""
    path = folder / _ROUTES
    settings = read_json(path) if path.is_file() else {}
    routes, types = settings.get("structure"), settings.get("types")
    if not isinstance(routes, dict) or not isinstance(types, dict):
        raise SourceError(f"{path}: structure and types of a Router are expected: save the model again")
    known = ", ".join(sorted(routes))
    if route is None:
        raise SourceError(
            f"{path}: a Router of the routes {known}: name one, as in {folder.name}#{min(routes, default='query')}"
        )
    if (settings.get("parameters") or {}).get("route_mappings"):
        raise SourceError(
            f"{path}: route_mappings choose a route by task and kind of input, which a bundle does not: save the modules of a route as a "
            "directory of their own"
        )
    if route not in routes:
        raise SourceError(f"{path}: there is no route {route!r}; the Router has: {known}")
    modules = []
    for name in routes[route]:
        if not isinstance(name, str) or "\0" in name or Path(name).name != name or not isinstance(types.get(name), str):
            raise SourceError(f"{path}: {name!r} is no folder of a module with a type: save the model again")
        modules.append(_module(types[name], folder / name))
    if not modules:
        raise SourceError(f"{path}: the route {route!r} lists no module: save the model again")
    return tuple(modules)


def _entries(path: Path) -> list[Any]:
    listed = read_any_json(path)
    if not isinstance(listed, list):
        raise SourceError(f"{path}: not a list of sentence-transformers modules")
    return listed


def library_class(directory: Path, config: Mapping[str, Any], modules: tuple[SentenceModule, ...]) -> str | None:
    """Return the class of sentence-transformers that a directory was saved by, as `SentenceTransformer`; None for another's.

    Cross-encoders of older versions have no modules.json, but an activation in config.json; ColBERT's own checkpoints have none either.
    """
    if modules:
        file = directory / MODEL_CONFIG
        settings = read_json(file) if file.is_file() else {}
        if "query_prefix" in settings or settings.get("model_type") == "ColBERT":  # saved by PyLate
            return "MultiVectorEncoder"
        return str(settings.get("model_type") or "SentenceTransformer")
    if is_stanford_colbert(config):
        return "MultiVectorEncoder"
    if config.get("sbert_ce_default_activation_function") or config.get("sentence_transformers"):
        return "CrossEncoder"
    return None


def similarity_of(directory: Path | None, task: str) -> str:
    """Return the function by which a directory compares embeddings; empty for tasks that have none.

    A name that is not one of the task's counts as none, as in the library.
    """
    known = SIMILARITIES.get(task, ())
    path = directory / MODEL_CONFIG if directory is not None else None
    named = read_json(path).get("similarity_fn_name") if path is not None and path.is_file() else None
    return named if named in known else next(iter(known), "")


def prompts_of(directory: Path | None) -> dict[str, str]:
    """Return the prompts of a directory of sentence-transformers by name; none where it has none. SourceError where they are no texts.

    Where it has some, `query` and `document` are among them, as in its library: empty where nothing is said.
    """
    path = directory / MODEL_CONFIG if directory is not None else None
    prompts = read_json(path).get("prompts") if path is not None and path.is_file() else None
    if not prompts:
        return {}
    if not isinstance(prompts, dict) or not all(isinstance(t, str | None) for t in prompts.values()):
        raise SourceError(f"{path}: prompts are texts by name, not {str(prompts)[:60]}")
    return {"query": "", "document": ""} | {str(name): text or "" for name, text in prompts.items()}
