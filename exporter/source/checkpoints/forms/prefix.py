"""Names that wrappers put before those of the class: data-parallel training, torch.compile, FSDP, DeepSpeed, Lightning modules."""

from ..checkpoint import Checkpoint
from ..class_names import foreign_prefix
from ..state import listed

ORDER = 0
NAME = "a wrapper's name before every tensor"
MARKS: tuple[str, ...] = ("\0",)

_ANYWHERE = ("_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module", "_forward_module")
"""Parts that torch.compile, FSDP, activation checkpointing and DeepSpeed put into names, at any depth."""

_LOSSES = ("criterion", "loss", "loss_fn", "loss_func")
"""Modules beside a model whose tensors only training needs."""


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Take wrappers' names off. A name before some tensors alone is none of a wrapper, and stays."""
    named = {name: ".".join(p for p in name.split(".") if p not in _ANYWHERE) for name in checkpoint.state}
    parts = sorted({p for name in checkpoint.state for p in name.split(".") if p in _ANYWHERE})
    if parts and len(set(named.values())) == len(named):
        state = {named[name]: tensor for name, tensor in checkpoint.state.items()}
        return checkpoint.changed(f"names without {' and '.join(map(repr, parts))} of a wrapper", state=state)
    names = checkpoint.state.keys() - {"n_averaged"}
    if names and all(name.startswith("module.") for name in names):
        return _without(checkpoint, "module.")
    prefix = foreign_prefix(names, checkpoint.config)
    return _without(checkpoint, prefix) if prefix else None


def _without(checkpoint: Checkpoint, prefix: str) -> Checkpoint | None:
    """Take a prefix off the tensors that have it, unless that gives a name twice; those of a loss are left out."""
    inside = [name for name in checkpoint.state if name.startswith(prefix)]
    beside = [name for name in checkpoint.state if not name.startswith(prefix)]
    training = [name for name in beside if name == "n_averaged" or name.split(".")[0] in _LOSSES]
    state = {name: checkpoint.state[name] for name in beside if name not in training}
    if state.keys() & {name.removeprefix(prefix) for name in inside}:
        return None
    state |= {name.removeprefix(prefix): checkpoint.state[name] for name in inside}
    sentence = f"names without {prefix!r}, which a wrapper put before {'all ' if not beside else ''}{len(inside)}"
    if training:
        sentence += f"; {listed(training)} is left out: only training needs it"
    return checkpoint.changed(sentence, state=state)
