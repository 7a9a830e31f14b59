"""Magnitude pruning as torch.nn.utils.prune saves it: `weight_orig` and `weight_mask` beside each other."""

from .....errors import SourceError
from ..checkpoint import Checkpoint
from ..state import StoredTensor

ORDER = 40
NAME = "masks of torch.nn.utils.prune"
MARKS = ("_orig", "_mask")


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Multiply each `…_orig` by its `…_mask`, which is exact. SourceError where one of the two is missing or has another shape."""
    stems = [name.removesuffix("_orig") for name in checkpoint.state if name.endswith("_orig")]
    if not stems:
        return None
    masked = {stem: _masked(checkpoint, stem) for stem in stems}
    others = checkpoint.without([f"{stem}{end}" for stem in stems for end in ("_orig", "_mask")])
    twice = sorted(masked.keys() & others.keys())
    if twice:
        raise SourceError(
            f"{checkpoint.directory}: {twice[0]} is saved both with its mask and without: keep one of the two"
        )
    return checkpoint.changed(f"pruning masks folded into {len(stems)} tensors", state=others | masked)


def _masked(checkpoint: Checkpoint, stem: str) -> StoredTensor:
    weight, mask = checkpoint.state[f"{stem}_orig"], checkpoint.state.get(f"{stem}_mask")
    if mask is None:
        raise SourceError(
            f"{checkpoint.directory}: {stem}_orig has no {stem}_mask beside it: save the whole state dict, or call "
            "torch.nn.utils.prune.remove on the module first"
        )
    if mask.shape != weight.shape:
        raise SourceError(
            f"{checkpoint.directory}: {stem}_mask is {list(mask.shape)}, and {stem}_orig {list(weight.shape)}: download it again"
        )
    return weight.computed(lambda tensor: tensor * mask.read())
