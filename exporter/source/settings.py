"""Refuse a setting of a source that nothing would follow, by its name and with the way to go on.

What transformers and sentence-transformers follow themselves is not looked at: their answers are the reference.
"""

import inspect
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import SourceError
from ...json_file import read_json
from . import config_keys
from .overlay import origin_of
from .recurrent_weights import check_not_recurrent
from .sentence_modules import MODEL_CONFIG, MODULES, STATIC, SentenceModule
from .source import EMBEDDING_TASKS, Source, architectures, task_of_architecture
from .stanford_colbert import ARCHITECTURE, check_metadata, is_stanford_colbert
from .word_models import check_convolution, of_words

FACTORY = "give the model as module:callable"

_HEADLESS = ("Model", "Encoder", "ForPreTraining")
_SAME = {"pylate.models.Dense.Dense": "sentence_transformers.base.modules.dense.Dense"}
"""Modules of PyLate that are those of sentence-transformers under another name, which reads them itself."""

_READ_MODULES = (
    "Transformer",
    "MLMTransformer",
    "Pooling",
    "Dense",
    "Normalize",
    "Dropout",
    "LayerNorm",
    "SpladePooling",
    "SparseAutoEncoder",
    "MultiVectorMask",
    *STATIC,
)
_READ_MODULES_OF_WORDS = ("WordEmbeddings", "WordWeights", "LSTM", "CNN")


def check_settings(source: Source) -> None:
    """Raise SourceError naming the first setting of a Hugging Face directory that would be left out."""
    assert source.directory is not None and source.encoder_directory is not None
    if source.is_static:
        _check_static(source)
        return
    if of_words(source.sentence_modules):
        _check_word_model(source)
        return
    config, tokenizer = (source.encoder_directory / n for n in ("config.json", "tokenizer_config.json"))
    for path in (config, tokenizer):
        _check_own_code(path, source)
    config = origin_of(config)
    _check_architectures(source, config)
    if not source.config.get("model_type"):
        check_not_recurrent(config, source.weights)
    _check_config(source.config, config)
    if tokenizer.is_file():
        _check_known(read_json(tokenizer), config_keys.TOKENIZER, origin_of(tokenizer), "transformers' tokenizers")
    if source.judge_class is not None and source.sentence_modules:
        _check_modules(source, source.directory)
    if source.judge_class is not None and is_stanford_colbert(source.config):
        check_metadata(source.directory)


def _check_static(source: Source) -> None:
    assert source.directory is not None
    if source.judge_class is None:
        raise SourceError(
            f"{source.spec}: tokens are looked up and no encoder runs, so that there is nothing for task {source.task!r}: leave "
            "`task` (--task) out"
        )
    _check_modules(source, source.directory)


def _check_modules(source: Source, directory: Path) -> None:
    late = source.task == "multi-vector"
    _check_model_config(directory / MODEL_CONFIG, late=late)
    for module in source.sentence_modules:
        _check_module(module, directory / MODULES, late=late)


def _check_word_model(source: Source) -> None:
    """Refuse a module, a setting, or a task that a model of word embeddings is not exported with."""
    assert source.directory is not None
    listing = source.directory / MODULES
    if source.judge_class is None:
        raise SourceError(
            f"{listing}: a model of word embeddings has no task {source.task!r}: leave `task` (--task) out"
        )
    _check_model_config(source.directory / MODEL_CONFIG, late=False)
    for module in source.sentence_modules:
        _check_module(module, listing, (*_READ_MODULES, *_READ_MODULES_OF_WORDS))
        if module.kind == "CNN":
            check_convolution(module.config, module.file)


def _check_own_code(path: Path, source: Source) -> None:
    """Refuse `auto_map`: it names code that a directory is never allowed to run."""
    named = (source.config if path.name == "config.json" else read_json(path) if path.is_file() else {}).get("auto_map")
    if named:
        code = next(iter(named.values())) if isinstance(named, dict) else named
        raise SourceError(
            f"{origin_of(path)}: auto_map names the model's own code ({code}), which is never run from a directory: {FACTORY}, or delete "
            "auto_map if transformers' own class is meant"
        )


def _check_architectures(source: Source, path: Path) -> None:
    """Refuse a class that is not the one which is loaded. A task that the user named takes the encoder, never the head of another."""
    names = architectures(source.config)
    pooled = source.task in EMBEDDING_TASKS
    if source.chosen and not pooled:
        _check_chosen(source.task, names, path)
        return
    import transformers

    for name in names:
        if name == ARCHITECTURE and source.judge_class == "MultiVectorEncoder":
            continue
        known = isinstance(getattr(transformers, name, None), type)
        if pooled and known:
            continue  # sentence-transformers takes the encoder of any class of the family
        if known and (task_of_architecture(name) or name.endswith(_HEADLESS)):
            continue
        way = FACTORY if pooled else f"{FACTORY}, or choose a `task` (--task) that ignores the class"
        what = "has no task here" if known else "is no class of transformers"
        raise SourceError(f"{path}: architectures names {name}, which {what}: {way}")


def _check_chosen(task: str, names: Sequence[str], path: Path) -> None:
    """Refuse a task by which the head of a class would be read as that of another: their tensors may have the same names."""
    if task == "feature-extraction":
        return
    for name in names:
        own = task_of_architecture(name)
        if own not in (None, task):
            raise SourceError(
                f"{path}: architectures names {name}, whose head is for {own}; as {task} its numbers would mean nothing: leave "
                "`task` (--task) out, or take feature-extraction for the encoder alone"
            )


def _check_config(config: Mapping[str, Any], path: Path) -> None:
    """Refuse keys that the config's class does not know, unless they are old, notes, or say nothing."""
    from transformers import AutoConfig

    if any(config.get("pruned_heads") or {}):
        raise SourceError(f"{path}: pruned_heads is no longer read by transformers: {FACTORY}")
    embedding = config.get("position_embedding_type")
    try:
        default = AutoConfig.for_model(str(config.get("model_type")))
    except ValueError as error:
        raise SourceError(
            f"{path}: transformers knows no model_type {config.get('model_type')!r}: {FACTORY} if it is your own"
        ) from error
    if embedding not in (None, "absolute") and not hasattr(default, "position_embedding_type"):
        raise SourceError(
            f"{path}: position_embedding_type = {embedding!r} is no longer read by transformers' {type(default).__name__}: {FACTORY}"
        )
    from transformers import GenerationConfig

    known = {*config_keys.HARMLESS, *default.to_dict(), *default.attribute_map, *GenerationConfig().to_dict()}
    known |= {"pruned_heads", "position_embedding_type"}
    family = _code_of(type(default))
    left = {
        k: v for k, v in config.items() if not hasattr(default, k) and not re.search(rf"\b{re.escape(k)}\b", family)
    }
    _check_known(left, known, path, f"transformers' {type(default).__name__}")


def _code_of(config_class: type) -> str:
    """Return the code that reads a family's config, its own and that of its models."""
    package = Path(inspect.getfile(config_class)).parent
    files = [*package.glob("configuration_*.py"), *package.glob("modeling_*.py")]
    return "\n".join(f.read_text(encoding="utf-8") for f in files)


def _check_known(settings: Mapping[str, Any], known: Collection[str], path: Path, reader: str) -> None:
    """Refuse settings that nothing follows."""
    for key, value in settings.items():
        if key in known or key.startswith("_") or not config_keys.asks(value):
            continue
        shown = json.dumps(value, ensure_ascii=False)
        raise SourceError(
            f"{path}: {key} = {shown[:60]} is a setting that {reader} do not know, so that nothing would follow it: delete it if it "
            f"is only a note, or {FACTORY}"
        )


def _check_model_config(path: Path, *, late: bool) -> None:
    if not path.is_file():
        return
    settings = read_json(path)
    name = settings.get("default_prompt_name")
    prompts = settings.get("prompts") or {}
    if name is not None and not (isinstance(prompts, dict) and isinstance(name, str) and name in prompts):
        raise SourceError(f"{path}: default_prompt_name = {name!r} is none of the prompts: correct it")
    if name is not None and prompts[name]:
        raise SourceError(
            f"{path}: default_prompt_name = {name!r} puts the prompt {prompts[name]!r} in front of every text, which a bundle does not: "
            "set it to null, and put the prompt in front of texts yourself"
        )
    known = config_keys.MODEL | config_keys.LATE_INTERACTION if late else config_keys.MODEL
    _check_known(settings, known, path, "sentence-transformers")


def _check_module(
    module: SentenceModule, listing: Path, known: Collection[str] = _READ_MODULES, *, late: bool = False
) -> None:
    """Refuse a module that is not sentence-transformers' own, one that is not traced, and settings that it does not know."""
    if not module.type.startswith("sentence_transformers.") and not (late and module.type in _SAME):
        raise SourceError(
            f"{listing}: {module.type} is the model's own code, which is never run from a directory: {FACTORY}"
        )
    if module.kind not in known:
        raise SourceError(f"{listing}: the module {module.type} is not supported: {FACTORY}")
    activation = str(module.config.get("activation_function", "torch."))
    if not activation.startswith("torch.") and module.kind != "SpladePooling":
        raise SourceError(
            f"{module.file}: activation_function = {activation!r} is the model's own code, which is never run from a directory: {FACTORY}"
        )
    if module.config.get("include_prompt") is False:
        raise SourceError(
            f"{module.file}: include_prompt = false leaves the prompt's tokens out of pooling, and a bundle does not know where a prompt "
            "ends: set it to true if texts come without a prompt"
        )
    if module.kind.endswith("Transformer"):
        _check_transformer(module, late=late)
    _check_known(module.config, _parameters(module), module.file, f"sentence-transformers' {module.kind}")


def _check_transformer(module: SentenceModule, *, late: bool) -> None:
    for key in ("query_length", "document_length", "query_expansion", "tokenizer_name_or_path"):
        if late and key != "tokenizer_name_or_path":
            continue
        if module.config.get(key):
            raise SourceError(f"{module.file}: {key} = {module.config[key]!r} is not followed by bundles: {FACTORY}")
    expected = {"text"}
    modalities = set(module.config.get("modality_config") or expected)
    if modalities != expected:
        raise SourceError(
            f"{module.file}: modality_config is for {', '.join(sorted(modalities))}, and bundles take plain text: {FACTORY}"
        )


def _parameters(module: SentenceModule) -> set[str]:
    """Return the settings that a module of sentence-transformers takes, under all their names."""
    from sentence_transformers.util import import_from_string

    found = import_from_string(_SAME.get(module.type, module.type))
    names = {*inspect.signature(found).parameters, *getattr(found, "config_keys", ())}
    names |= set(getattr(found, "config_key_renames", {}))
    if module.kind == "Pooling":
        modes = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
        names |= {f"pooling_mode_{mode}" for mode in modes}
    if module.kind.endswith("Transformer"):
        names |= {"model_args", "tokenizer_args", "config_args"}
    return names
