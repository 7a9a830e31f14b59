"""Open what the user points at: its kind, task, files and limits in tokens. Damaged sources are refused."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...errors import SourceError, UsageError
from ...json_file import read_json
from ...manifest import MANIFEST, Side
from ..recipe.recipe import split_route
from .bounds import check_bounds, limit
from .checkpoints.checkpoint import Checkpoint
from .checkpoints.read import read_checkpoint
from .overlay import origin_of
from .place import TOKENIZER_FILES, locate
from .sentence_modules import STATIC, SentenceModule, library_class, read_modules
from .setfit_head import SetFitHead, read_head
from .stanford_colbert import METADATA
from .weight_files import WEIGHTS, weight_files
from .word_models import of_words, word_config

TASK_OUTPUTS: dict[str, tuple[str, ...]] = {
    "feature-extraction": ("last_hidden_state",),
    "sentence-embedding": ("last_hidden_state", "sentence_embedding"),
    "sparse-embedding": ("sentence_embedding",),
    "multi-vector": ("token_embeddings",),
    "fill-mask": ("logits",),
    "text-classification": ("logits",),
    "token-classification": ("logits",),
    "question-answering": ("start_logits", "end_logits"),
    "multiple-choice": ("logits",),
}
"""Output names by task, those of the Hugging Face model class."""

LIBRARY_TASKS = {
    "SentenceTransformer": "sentence-embedding",
    "SparseEncoder": "sparse-embedding",
    "MultiVectorEncoder": "multi-vector",
    "CrossEncoder": "text-classification",
}
"""The task of each class of sentence-transformers, for which its answers count."""

EMBEDDING_TASKS = ("sentence-embedding", "sparse-embedding", "multi-vector")
"""Tasks that modules of sentence-transformers make of an encoder of any class."""

_POSITIONS = ("max_position_embeddings", "n_positions")
"""Names that configs have for the number of positions."""

LONGEST = 1 << 13
"""How many tokens of a text a bundle reads at most, since its answers are compared at the longest: a model for 131,072 tokens would
take some hundred gigabytes for one layer's attention then. A bundle says which texts were cut.
"""

_HEADS = {
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
}


@dataclass(frozen=True)
class Source:
    """A model as the user gave it. `directory` holds its config and tokenizer files, if there are any.

    `library_class` is the class of sentence-transformers that saved it. `chosen`: the user named the task. `checkpoint` holds the
    tensors of a compressed form, undone; it is None where the files are as their own library reads them. `zeros` says what zeros the
    weights have, and `cut` whether some were cut away: known once the graph is captured. `probed` is how many tokens the loaded
    model's position embeddings cover, where running it told.
    `form` has the sentences about a file of ONNX in another tool's form, known once it is read.
    `route` is that of the Router whose modules these are. `prompts`, `sides` and `tokenizer` are those of a loaded multi-vector model,
    where its library reads them from several places.
    """

    kind: Literal["huggingface", "onnx", "factory"]
    spec: str
    task: str
    directory: Path | None
    config: dict[str, Any]
    weights: tuple[Path, ...] = ()
    sentence_modules: tuple[SentenceModule, ...] = field(default=())
    library_class: str | None = None
    chosen: bool = False
    checkpoint: Checkpoint | None = None
    zeros: tuple[str, ...] = ()
    cut: bool = False
    probed: int | None = None
    head: SetFitHead | None = None
    form: tuple[str, ...] = ()
    route: str | None = None
    prompts: Mapping[str, str] | None = None
    sides: Mapping[str, Side] = field(default_factory=dict)
    tokenizer: Any = None

    @property
    def sentences(self) -> tuple[str, ...]:
        """What compressed forms the source has, a sentence for each; the head of SetFit is one."""
        forms = self.checkpoint.sentences if self.checkpoint is not None else ()
        classes = (f"SetFit head of {len(self.head.labels)} classes",) if self.head is not None else ()
        return (*forms, *classes, *self.form, *self.zeros)

    @property
    def encoder_directory(self) -> Path | None:
        """The directory of the encoder's config, weights and tokenizer: that of the first module, where there are modules."""
        return self.sentence_modules[0].folder if self.sentence_modules else self.directory

    @property
    def place(self) -> Path:
        """What messages call the encoder's directory; the file or directory that it was laid out from, where it was."""
        assert self.encoder_directory is not None
        return origin_of(self.encoder_directory)

    @property
    def is_static(self) -> bool:
        """Whether tokens are looked up, and no encoder runs."""
        return bool(self.sentence_modules) and self.sentence_modules[0].kind in STATIC

    @property
    def reads_padding(self) -> bool:
        """Whether vectors at masked tokens are answers, as those that a query is filled up with."""
        return any(side.expansion_id is not None and not side.attended for side in self.sides.values())

    @property
    def judge_class(self) -> str | None:
        """The class of sentence-transformers whose answers count for this task; None where transformers' model counts."""
        if self.head is not None:
            return self.library_class
        counts = self.kind == "huggingface" and LIBRARY_TASKS.get(self.library_class or "") == self.task
        return self.library_class if counts else None

    @property
    def fingerprint(self) -> str:
        """sha256 over the weight files and the config, which identifies the model wherever it is stored."""
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for path in self.weights:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    @property
    def longest(self) -> int:
        """Longest sequence in tokens that a bundle takes: what the source allows, and at most `LONGEST`."""
        return min(self.allowed, LONGEST)

    @property
    def allowed(self) -> int:
        """Longest sequence in tokens that positions, tokenizer and sentence-transformers settings all allow.

        sentence-transformers puts its own limit in the place of the tokenizer's.
        """
        own: Any = None
        if self.sentence_modules and (self.judge_class or self.kind == "onnx"):
            first = self.sentence_modules[0]
            name = "model_max_length" if "model_max_length" in first.tokenizer_settings else "max_seq_length"
            own = limit({**first.config, **first.tokenizer_settings}.get(name), first.file, name)
        file = self.encoder_directory / "tokenizer_config.json" if self.encoder_directory else None
        if own is None and file is not None and file.is_file():
            given = origin_of(file)
            file = given if given.is_file() and given.name == file.name else file
            own = limit(read_json(file).get("model_max_length"), file, "model_max_length")
        return min(self.positions, int(own) if own and own < 1 << 20 else 1 << 20)

    @property
    def positions(self) -> int:
        """Tokens that the position embeddings cover: probed where the model is loaded, else as its config says.

        By their config, models of families like RoBERTa count positions from the padding id on.
        """
        if self.is_static:
            return min(LONGEST, self.sentence_modules[0].longest or LONGEST)
        declared = next((int(self.config[n]) for n in _POSITIONS if self.config.get(n)), 512)
        declared = declared if declared > 0 else 512
        if self.probed is not None:
            return self.probed
        model_type = self.config.get("model_type")
        if model_type == "mpnet":
            declared -= 2  # whatever the config says about padding
        elif model_type in {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text"}:
            pad = self.config.get("pad_token_id")
            declared -= (1 if pad is None else int(pad)) + 1
        return declared


def open_source(
    spec: str, *, task: str | None = None, allow_pickle: bool = False, adapters: Sequence[str] = ()
) -> Source:
    """Open `spec`: a directory, a weight file beside its config.json, an `.onnx` file, `module:callable`, or a name on the hub.

    `adapters` are directories of adapters that are merged into it, in order. Raises SourceError for a missing, damaged or pickled
    source, UsageError for an unknown task, and for adapters of a graph or a factory.
    """
    if task is not None and task not in TASK_OUTPUTS:
        raise UsageError(f"unknown task {task!r}; known: {', '.join(TASK_OUTPUTS)}")
    path, route = _without_route(spec)
    places = [Path(adapter) for adapter in adapters]
    graph = path.suffix == ".onnx" or (path.is_file() and path.suffix in (".pb", ".ort"))
    factory = ":" in spec and not path.exists()
    if places and (graph or factory):
        raise UsageError(
            f"{spec}: adapters are merged into a model's directory, not into {'a graph' if graph else 'a factory'}"
        )
    if graph:
        return _onnx_source(path, task)
    if path.is_dir():
        return _directory_source(path, spec, task, allow_pickle, places, route=route)
    if factory:
        return Source("factory", spec, task or "feature-extraction", None, {})
    if path.is_file() and path.suffix in (*WEIGHTS, ".gguf"):
        return _directory_source(path.parent, spec, task, allow_pickle, places, path)
    if path.is_file():
        raise SourceError(f"{spec}: neither a model's directory nor an .onnx file")
    if path.is_absolute() or spec.startswith(".") or spec.count("/") != 1:
        raise SourceError(f"{spec}: no such file or directory")
    return _directory_source(_from_hub(spec), spec, task, allow_pickle, places)


def _without_route(spec: str) -> tuple[Path, str | None]:
    """Return the path of a source, and the route of a Router that stands behind it after `#`."""
    path, route = split_route(spec)
    if route and Path(path).is_dir():
        return Path(path), route[1:]
    return Path(spec), None


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                name,
                allow_patterns=[
                    "*.json",
                    "*.safetensors",
                    "*.txt",
                    "*.model",
                    "*/*.json",
                    "*/model.safetensors",
                    "model_head.pkl",
                    METADATA,
                ],
            )
        )
    except Exception as error:  # the hub client raises network errors of several libraries
        raise SourceError(
            f"{name}: no such directory, and the hub could not deliver it ({type(error).__name__})"
        ) from error


def _onnx_source(path: Path, task: str | None) -> Source:
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    if path.suffix != ".onnx":
        raise SourceError(f"{path}: {path.suffix} files are not read; give the model's directory or an .onnx file")
    directory = next((d for d in (path.parent, path.parent.parent) if (d / "config.json").is_file()), None)
    config = read_json(directory / "config.json") if directory else {}
    found = task or (_task(config, directory, None) if directory else "feature-extraction")
    if directory is None and any((path.parent / name).is_file() for name in TOKENIZER_FILES):
        directory = path.parent
    check_bounds(config, (directory or path) / "config.json")
    modules = read_modules(directory) if directory else ()
    beside = tuple(
        sorted(p for p in path.parent.iterdir() if p.name.startswith(path.name) and p != path and p.is_file())
    )
    return Source(
        "onnx",
        str(path),
        found,
        directory,
        config,
        (path, *beside),
        modules if modules and modules[0].folder == directory else (),
    )


def _directory_source(
    given: Path,
    spec: str,
    task: str | None,
    allow_pickle: bool,
    adapters: Sequence[Path] = (),
    file: Path | None = None,
    route: str | None = None,
) -> Source:
    """Open a directory; `file` is the only weight file of it that counts, where the user named one."""
    if (given / MANIFEST).is_file():
        raise SourceError(f"{given} is a Headway bundle, no model: give the source that its recipe.yaml names")
    directory, modules, place = locate(given, adapters, file=file, route=route, allow_pickle=allow_pickle)
    home = place.directory
    static = bool(modules) and modules[0].kind in STATIC
    own = word_config(modules[0], place.files) if of_words(modules) else {} if static else None
    config = read_json(home / "config.json") if own is None else own
    check_bounds(config, origin_of(home / "config.json"))
    checkpoint = None if static else read_checkpoint(place, config)
    weights = place.all_files
    if checkpoint is not None:
        config = dict(checkpoint.config)
        check_bounds(config, origin_of(home / "config.json"))
    saved_by = library_class(directory, config, modules)
    for module in modules:
        if module.folder != home and any(module.folder.glob("*.safetensors")) | any(module.folder.glob("*.bin")):
            weights += weight_files(module.folder, allow_pickle)
    head = (
        read_head(directory, allow_pickle=allow_pickle) if modules and task in (None, "text-classification") else None
    )
    if head is not None:
        config, weights, task = {**config, **head.settings()}, (*weights, head.file), "text-classification"
    return Source(
        "huggingface",
        spec,
        task or _task(config, directory, saved_by),
        directory,
        config,
        weights,
        modules,
        saved_by,
        task is not None and head is None,
        checkpoint,
        head=head,
        route=route,
    )


def architectures(config: Mapping[str, Any]) -> list[str]:
    """Return the class names in a config's `architectures`, which old versions wrote as one string."""
    names = config.get("architectures") or []
    return [names] if isinstance(names, str) else [str(name) for name in names]


def task_of_architecture(name: str) -> str | None:
    """Return the task of a transformers class by its name; None where it has none here."""
    return next((task for ending, task in _HEADS.items() if name.endswith(ending)), None)


def _task(config: dict[str, Any], directory: Path, saved_by: str | None) -> str:
    if saved_by in LIBRARY_TASKS and saved_by != "CrossEncoder":
        return LIBRARY_TASKS[saved_by]
    if saved_by not in (None, "CrossEncoder"):
        raise SourceError(
            f"{directory}: saved by {saved_by} of sentence-transformers, whose outputs no bundle has: `task` (--task) "
            "feature-extraction or fill-mask exports its encoder alone"
        )
    for architecture in architectures(config):
        task = task_of_architecture(architecture)
        if task is not None:
            return task
        if architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
            raise SourceError(f"{architecture} is a decoder; only encoders are exported so far")
    return "feature-extraction"
