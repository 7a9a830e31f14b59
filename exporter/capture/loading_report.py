"""Account for every tensor of a checkpoint: used by the loaded model, explained, or refused by name."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import SourceError
from ..source.checkpoints.read import close_to
from ..source.checkpoints.state import listed
from ..source.source import Source, architectures
from ..source.stanford_colbert import PROJECTION, is_stanford_colbert
from ..source.weight_files import PICKLES
from .structured import load_structured

_NAMED = 10

_PRUNING = (".mask", "_mask", "_scores", ".mask_scores", "_orig", ".scores")
"""Endings of what pruning libraries keep beside a weight."""

_HEADS = ("cls.", "lm_predictions.", "mask_predictions.", "lm_head.")
"""First parts of heads for pre-training that some checkpoints have beside those of the class they name."""

_BUFFERS = ("position_ids", "token_type_ids")
"""Buffers that earlier versions saved: consecutive numbers, or zeros."""


@contextmanager
def reported(source: Source) -> Iterator[list[tuple[Any, Mapping[str, Any]]]]:
    """Yield a list that receives each model which transformers loads inside the block, and its report on the tensors.

    Tensors whose shape differs are reported, too: transformers' own error does not name them. Where the source's checkpoint has a
    compressed form, its tensors are those with the form undone.
    """
    from transformers import PreTrainedModel

    reports: list[tuple[Any, Mapping[str, Any]]] = []
    original = PreTrainedModel.__dict__["from_pretrained"]

    def from_pretrained(cls: Any, *args: Any, **options: Any) -> Any:
        options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        load = original.__get__(None, cls)
        if source.checkpoint is not None and args and Path(args[0]) == source.encoder_directory:
            model, report = load_structured(cls, source.checkpoint, partial(load, **_without_config(options)))
        else:
            model, report = load(*args, **options)
        reports.append((model, report))
        return model

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)
    try:
        yield reports
    finally:
        PreTrainedModel.from_pretrained = original


def _without_config(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in ("config", "state_dict")}


def check_loaded(source: Source, model: Any, report: Mapping[str, Any]) -> list[str]:
    """Return notes on tensors that the task does not need. SourceError names those that are missing, differ, or have no use."""
    place = source.place
    kept = {_short(k, model) for k in model.state_dict()}
    buffers = {k for k in _saved_names(source) if k.endswith(_BUFFERS) and _short(k, model) not in kept}
    # transformers reports no position_ids, whatever they are.
    unexpected = sorted({*report["unexpected_keys"], *buffers})
    _check_shapes(place, model, report["mismatched_keys"])
    if source.judge_class is not None and is_stanford_colbert(source.config):
        unexpected = [k for k in unexpected if k != PROJECTION]  # its library reads it by itself
    left = [k for k in unexpected if not _is_known_buffer(source, k)]
    heads = _head_tensors(source, model) if left else set()
    unused = [k for k in left if _short(k, model) not in heads and not _short(k, model).startswith(_HEADS)]
    _check_missing(source, model, sorted(report["missing_keys"]), unused)
    if not left:
        return []
    if unused:
        raise SourceError(_no_use(source, model, unused))
    named = sorted({_short(k, model).split(".")[0] for k in left})
    return [f"{place}: task {source.task!r} does not need the head {', '.join(named)} ({len(left)} tensors)"]


def _check_shapes(place: Any, model: Any, mismatched: Collection[Any]) -> None:
    if mismatched:
        rows = sorted((str(key), tuple(saved), tuple(wanted)) for key, saved, wanted in mismatched)
        differing = listed([f"{key} is {list(saved)}, not {list(wanted)}" for key, saved, wanted in rows])
        raise SourceError(
            f"{place}: config.json disagrees with the weights: {differing}: correct the sizes in config.json, or give the weights "
            "that belong to it"
        )


def _check_missing(source: Source, model: Any, missing: list[str], unexpected: list[str]) -> None:
    """Refuse what transformers would fill with random numbers. A base model's pooler gives none of the outputs."""
    if source.task in ("feature-extraction", "sentence-embedding"):
        missing = [k for k in missing if not k.startswith("pooler.")]
    if not missing:
        return
    if any(k.endswith("_orig") for k in unexpected):
        raise SourceError(
            f"{source.place}: {missing[0]} is stored in two parts (…_orig and …_mask): call torch.nn.utils.prune.remove "
            "on every pruned module, and save the model again"
        )
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    message = (
        f"{source.place}: task {source.task!r} needs {len(missing)} tensors that the checkpoint lacks "
        f"({listed([f'{name} {shapes[name]}' if name in shapes else name for name in missing])})"
    )
    if not unexpected:
        raise SourceError(f"{message}: choose another `task` (--task), or give the fine-tuned checkpoint")
    seen = [
        f"{name} {list(found.shape)}" if (found := _tensor(source, name)) is not None else name
        for name in unexpected[:_NAMED]
    ]
    seen += unexpected[_NAMED:]
    raise SourceError(
        f"{message}, and has others that it does not use ({listed(seen)}){_close(unexpected)}: choose another `task` (--task), give the "
        "fine-tuned checkpoint, or, where a tool saved a form of its own, merge or convert it by that tool, or give the model as "
        "module:callable"
    )


def _is_known_buffer(source: Source, key: str) -> bool:
    """Return whether a tensor is a buffer of earlier versions, with the values that it always had."""
    if not key.endswith(_BUFFERS):
        return False
    values = _tensor(source, key)
    if values is None:
        return False
    if key.endswith("token_type_ids"):
        return not bool(values.any())
    flat = values.reshape(-1, values.shape[-1])
    return bool((flat[:, 1:] - flat[:, :-1] == 1).all()) and int(flat[0, 0]) in (0, 1, 2)


def _saved_names(source: Source) -> list[str]:
    """Return the names in the safetensors files, or those of a form that was undone."""
    from safetensors import safe_open

    if source.checkpoint is not None:
        return list(source.checkpoint.state)
    names: list[str] = []
    for path in source.weights:
        if path.suffix == ".safetensors" and path.parent == source.encoder_directory:
            with safe_open(path, framework="numpy") as file:
                names += file.keys()
    return names


def _tensor(source: Source, key: str) -> Any:
    """Return a tensor of the weight files; None where none has the name."""
    import torch
    from safetensors import safe_open

    if source.checkpoint is not None:
        tensor = source.checkpoint.state.get(key)
        return tensor.read() if tensor is not None else None
    for path in source.weights:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                if key in file.keys():  # noqa: SIM118  no container
                    return file.get_tensor(key)
        elif path.suffix in PICKLES:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if key in state:
                return state[key]
    return None


def _short(key: str, model: Any) -> str:
    """Return a tensor's name as in the base model, without the prefix of models with a head."""
    return key.removeprefix(f"{getattr(model, 'base_model_prefix', '')}.")


def _head_tensors(source: Source, model: Any) -> set[str]:
    """Return the names of tensors that the family's classes have beside those of the loaded model.

    Looked at are the classes for pre-training, and those that the config names.
    """
    import torch
    import transformers

    family = type(model).__name__.split("For")[0].removesuffix("Model")
    names = [f"{family}Model", f"{family}ForPreTraining", f"{family}ForMaskedLM", *architectures(source.config)]
    known: set[str] = set()
    for name in names:
        found = getattr(transformers, name, None)
        if isinstance(found, type) and getattr(found, "config_class", None) is type(model.config):
            with torch.device("meta"):
                known |= {_short(k, model) for k in found(model.config).state_dict()}
    return known - {_short(k, model) for k in model.state_dict()}


def _no_use(source: Source, model: Any, unused: list[str]) -> str:
    message = f"{source.place}: {type(model).__name__} of transformers has no use for {listed(unused)}{_close(unused)}"
    if any(k.endswith(_PRUNING) for k in unused):
        return f"{message}: masks and scores of a pruning library: apply them to the weights and save those alone"
    layer = _surplus_layer(unused, model)
    if layer is not None:
        return f"{message}: config.json disagrees with the weights: the configured model has no {layer}"
    return f"{message}: if the model has code of its own, give it as module:callable; otherwise save it without them"


def _close(names: list[str]) -> str:
    """Return which forms these tensors remind of, as an addition to a sentence."""
    close = close_to(names)
    return f" (close to {' and '.join(close)}, but not as those are saved)" if close else ""


def _surplus_layer(unused: list[str], model: Any) -> str | None:
    """Return the first numbered layer that a tensor belongs to and the configured model lacks."""
    known = {_short(name, model) for name, _ in model.named_modules()}
    for key in unused:
        parts = _short(key, model).split(".")
        for i, part in enumerate(parts):
            if part.isdigit() and ".".join(parts[:i]) in known and ".".join(parts[: i + 1]) not in known:
                return ".".join(parts[: i + 1])
    return None
