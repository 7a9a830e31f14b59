"""Load a checkpoint whose form was undone: transformers' class, built to the sizes of the tensors. Imports torch when it loads.

The sizes are changed at the end of the class's constructor, so that transformers itself loads the tensors, ties what is tied,
and reports what is missing or left.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ...errors import SourceError
from ..source.checkpoints.checkpoint import Checkpoint
from ..source.checkpoints.state import State

_HEAD_COUNTS = ("num_attention_heads", "n_heads", "num_heads")
_WIDTHS = ("all_head_size", "dim")
_QUERIES = ("query", "q_lin", "q", "q_proj")


def load_structured(model_class: Any, checkpoint: Checkpoint, load: Any) -> Any:
    """Return what `load(None, config=…, state_dict=…)`, transformers' own loader of `model_class`, makes of the checkpoint."""
    config = model_class.config_class.from_dict(dict(checkpoint.config))
    config.name_or_path = str(checkpoint.directory)
    state = {name: tensor.read() for name, tensor in checkpoint.state.items()}
    with _resized_on_construction(model_class, checkpoint):
        return load(None, config=config, state_dict=state)


@contextmanager
def _resized_on_construction(model_class: Any, checkpoint: Checkpoint) -> Iterator[None]:
    constructor = model_class.__init__

    def construct(self: Any, config: Any, *args: Any, **options: Any) -> None:
        constructor(self, config, *args, **options)
        if type(self) is model_class:
            resize(self, checkpoint)

    model_class.__init__ = construct
    try:
        yield
    finally:
        model_class.__init__ = constructor


def resize(model: Any, checkpoint: Checkpoint) -> None:
    """Give modules the sizes and kinds that the checkpoint says, in place. Parameters stay on the device of the model."""
    prefix = f"{model.base_model_prefix}."
    modules = dict(model.named_modules())

    def path_of(name: str) -> str | None:
        return next((p for p in (name, name.removeprefix(prefix), prefix + name) if p in modules), None)

    for name in sorted(checkpoint.resized):
        path = path_of(name)
        if path is not None:
            _put(model, path, _sized(modules[path], name, checkpoint.state))
    for name, kind in checkpoint.replaced.items():
        path = path_of(name)
        if path is not None:
            _put(model, path, _KINDS[kind](modules[path]))
    _count_heads(model, checkpoint)
    _round_inputs(
        model, {path: step for n, step in checkpoint.rounded_inputs.items() if (path := path_of(n)) is not None}
    )


def _round_inputs(model: Any, steps: Mapping[str, float]) -> None:
    if steps:
        from .rounded_linear import RoundedLinear

        for path, step in steps.items():
            _put(model, path, RoundedLinear(model.get_submodule(path), step))


def _put(model: Any, path: str, module: Any) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def _sized(module: Any, name: str, state: State) -> Any:
    """Return a linear layer or an embedding of the sizes of its tensors, or two of them, one after the other.

    SourceError where the class has another module there.
    """
    import torch

    if not isinstance(module, torch.nn.Linear | torch.nn.Embedding):
        raise SourceError(
            f"{name} is a {type(module).__name__} of its class, and the checkpoint has a linear layer there"
        )

    def linear(path: str) -> Any:
        out, into = state[f"{path}.weight"].shape
        return torch.nn.Linear(into, out, bias=f"{path}.bias" in state)

    def table(path: str) -> Any:
        rows, width = state[f"{path}.weight"].shape
        return torch.nn.Embedding(rows, width, padding_idx=getattr(module, "padding_idx", None))

    first = table if isinstance(module, torch.nn.Embedding) else linear
    if f"{name}.weight" in state:
        return first(name)
    return torch.nn.Sequential(first(f"{name}.0"), linear(f"{name}.1"))


def _count_heads(model: Any, checkpoint: Checkpoint) -> None:
    """Tell attention modules how many heads their projections have."""
    for module in model.modules():
        size = getattr(module, "attention_head_size", None)
        query = next((getattr(module, q) for q in _QUERIES if hasattr(module, q)), None)
        if size is None or query is None:
            continue
        if checkpoint.head_size is not None:
            module.attention_head_size = size = checkpoint.head_size
            module.scaling = size**-0.5
        out = getattr(query[-1] if hasattr(query, "__getitem__") else query, "out_features", None)
        if out is None:
            continue
        for name, count in (*((n, out // size) for n in _HEAD_COUNTS), *((n, out) for n in _WIDTHS)):
            if hasattr(module, name):
                setattr(module, name, count)


def _no_norm(module: Any) -> Any:
    from transformers.models.mobilebert.modeling_mobilebert import NoNorm

    return NoNorm(tuple(module.weight.shape)[-1])


_KINDS = {"no_norm": _no_norm}
