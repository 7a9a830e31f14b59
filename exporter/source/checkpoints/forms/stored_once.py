"""Tensors that several modules share, which a file holds once, under one of their names (`save_model` of safetensors)."""

from dataclasses import replace

from ..checkpoint import Checkpoint

ORDER = 5
NAME = "tensors that modules share, stored once"
MARKS: tuple[str, ...] = ("\0",)


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Give each module its tensor under its own name; they become one again in the graph."""
    shared = [name for name, tensor in checkpoint.state.items() if tensor.stored_as is not None]
    if not shared:
        return None
    state = {name: replace(tensor, stored_as=None) for name, tensor in checkpoint.state.items()}
    return checkpoint.changed(f"{len(shared)} tensors are stored under the name of one that they share", state=state)
