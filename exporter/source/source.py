"""Open what the user points at, without torch: its kind, task, files and limits in tokens. Damaged sources are refused."""

import hashlib
import json
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...errors import SourceError, UsageError
from ...json_file import read_json
from ...manifest import MANIFEST

TASK_OUTPUTS: dict[str, tuple[str, ...]] = {
    "feature-extraction": ("last_hidden_state",),
    "sentence-embedding": ("last_hidden_state", "sentence_embedding"),
    "fill-mask": ("logits",),
    "text-classification": ("logits",),
    "token-classification": ("logits",),
    "question-answering": ("start_logits", "end_logits"),
    "multiple-choice": ("logits",),
}
"""Output names by task, those of the Hugging Face model class."""

_HEADS = {
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
}


@dataclass(frozen=True)
class Source:
    """A model as the user gave it. `directory` holds its config and tokenizer files, if there are any."""

    kind: Literal["huggingface", "onnx", "factory"]
    spec: str
    task: str
    directory: Path | None
    config: dict[str, Any]
    weights: tuple[Path, ...] = ()
    sentence_modules: tuple[dict[str, Any], ...] = field(default=())

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
        """Longest sequence in tokens that positions, tokenizer and sentence-transformers settings all allow."""
        limits = [self.positions, 1 << 20]
        for name, key in (
            ("sentence_bert_config.json", "max_seq_length"),
            ("tokenizer_config.json", "model_max_length"),
        ):
            value = (
                read_json(self.directory / name).get(key)
                if self.directory and (self.directory / name).is_file()
                else None
            )
            limits.append(int(value) if value and value < 1 << 20 else 1 << 20)
        return min(limits)

    @property
    def positions(self) -> int:
        """Tokens that the position embeddings cover; models like RoBERTa count positions from the padding id on."""
        declared = int(self.config.get("max_position_embeddings") or 512)
        declared = declared if declared > 0 else 512
        model_type = self.config.get("model_type")
        if model_type == "mpnet":
            declared -= 2  # whatever the config says about padding
        elif model_type in {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text"}:
            pad = self.config.get("pad_token_id")
            declared -= (1 if pad is None else int(pad)) + 1
        return declared


def open_source(spec: str, *, task: str | None = None, allow_pickle: bool = False) -> Source:
    """Open `spec`: a directory, an `.onnx` file, `module:callable`, or a name on the Hugging Face hub.

    Raises SourceError for a missing, damaged or pickled source, UsageError for an unknown task.
    """
    if task is not None and task not in TASK_OUTPUTS:
        raise UsageError(f"unknown task {task!r}; known: {', '.join(TASK_OUTPUTS)}")
    path = Path(spec)
    if path.suffix == ".onnx" or (path.is_file() and path.suffix in (".pb", ".ort", ".pt", ".bin", ".safetensors")):
        return _onnx_source(path, task)
    if path.is_dir():
        return _directory_source(path, spec, task, allow_pickle)
    if ":" in spec and not path.exists():
        return Source("factory", spec, task or "feature-extraction", None, {})
    if path.is_file():
        raise SourceError(f"{spec}: neither a model's directory nor an .onnx file")
    if path.is_absolute() or spec.startswith(".") or spec.count("/") != 1:
        raise SourceError(f"{spec}: no such file or directory")
    return _directory_source(_from_hub(spec), spec, task, allow_pickle)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "*/config.json"])
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
    beside = tuple(
        sorted(p for p in path.parent.iterdir() if p.name.startswith(path.name) and p != path and p.is_file())
    )
    return Source(
        "onnx",
        str(path),
        task or (_task(config, ()) if config else "feature-extraction"),
        directory,
        config,
        (path, *beside),
    )


def _directory_source(directory: Path, spec: str, task: str | None, allow_pickle: bool) -> Source:
    if (directory / MANIFEST).is_file():
        raise SourceError(f"{directory} is a Headway bundle, no model: give the source that its recipe.yaml names")
    if not (directory / "config.json").is_file():
        graphs = sorted(directory.glob("*.onnx"))
        hint = f"; to read {graphs[0].name}, give its path" if graphs else ""
        raise SourceError(f"{directory}: no config.json, so this is not a Hugging Face model directory{hint}")
    config = read_json(directory / "config.json")
    modules = _sentence_modules(directory)
    weights = _weights(directory, allow_pickle)
    return Source("huggingface", spec, task or _task(config, modules), directory, config, weights, modules)


def _sentence_modules(directory: Path) -> tuple[dict[str, Any], ...]:
    """Return the modules that sentence-transformers runs after the encoder, each with its own config."""
    path = directory / "modules.json"
    if not path.is_file():
        return ()
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        kinds = [(entry["type"].rsplit(".", 1)[-1], str(directory / entry["path"])) for entry in listed]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(f"{path}: not a list of sentence-transformers modules ({error})") from error
    modules = []
    for kind, folder in kinds[1:]:
        file = directory / folder / "config.json"
        modules.append({"kind": kind, "folder": str(directory / folder), **(read_json(file) if file.is_file() else {})})
    return tuple(modules)


def _task(config: dict[str, Any], modules: tuple[dict[str, Any], ...]) -> str:
    if modules:
        return "sentence-embedding"
    for architecture in map(str, config["architectures"] if isinstance(config.get("architectures"), list) else ()):
        for ending, task in _HEADS.items():
            if architecture.endswith(ending):
                return task
        if architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
            raise SourceError(f"{architecture} is a decoder; only encoders are exported so far")
    return "feature-extraction"


def _weights(directory: Path, allow_pickle: bool) -> tuple[Path, ...]:
    """Return the weight files, each checked for damage; safetensors come before pickles."""
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
        files = [directory / name for name in names]
    else:
        files = [directory / "model.safetensors"] if (directory / "model.safetensors").is_file() else []
    for file in files:
        _check_safetensors(file)
    if files:
        return tuple(files)
    pickles = sorted(directory.glob("pytorch_model*.bin"))
    if not pickles:
        raise SourceError(f"{directory}: no weights; expected model.safetensors (or its index and shards)")
    if not allow_pickle:
        raise SourceError(
            f"{pickles[0]}: a pickle, which can run code when it is loaded. Convert it to safetensors, "
            "or pass --allow-pickle if you trust its author"
        )
    return tuple(pickles)


def _check_safetensors(path: Path) -> None:
    """Raise SourceError where the file is missing, damaged, or lists a tensor twice.

    The library checks the header, and that tensors neither overlap nor leave bytes uncovered. It lets a repeated name pass.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise SourceError(f"{path}: this shard is listed in the index but is not there")
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        if "not fully covered" in reason:
            raise SourceError(
                f"{path}: truncated or damaged: its {path.stat().st_size} bytes are not those that its header lists. "
                "Download it again"
            ) from error
        raise SourceError(f"{path}: not a safetensors file, or damaged in its header ({reason})") from error
    repeated = _repeated_tensor(path)
    if repeated is not None:
        raise SourceError(f"{path}: damaged: its header lists the tensor {repeated!r} twice. Download it again")


def _repeated_tensor(path: Path) -> str | None:
    """Return the first tensor that a valid safetensors header names twice, which JSON readers let pass; None where none is."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries: list[tuple[str, Any]] = json.loads(file.read(length), object_pairs_hook=list)
    return next((name for name, count in Counter(name for name, _ in entries).items() if count > 1), None)
