"""A name before every tensor, as wrappers leave it: `module.` of data-parallel training, `_orig_mod.` of torch.compile."""

from ..checkpoint import Checkpoint

ORDER = 0
NAME = "a wrapper's name before every tensor"
MARKS: tuple[str, ...] = ("\0",)

_PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.")


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Take the wrapper's name off all tensors. A name before some of them alone is none of a wrapper, and stays."""
    prefix = next((p for p in _PREFIXES if checkpoint.state and all(n.startswith(p) for n in checkpoint.state)), None)
    if prefix is None:
        return None
    state = {name.removeprefix(prefix): tensor for name, tensor in checkpoint.state.items()}
    return checkpoint.changed(f"names without {prefix!r}, which a wrapper put before all {len(state)}", state=state)
