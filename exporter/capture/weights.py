"""Find numbers in a source's weights that no artifact could reproduce: NaN and infinity."""

from typing import Any

from ...errors import SourceError
from ..source.source import Source


def check_finite(module: Any, source: Source) -> None:
    """Raise SourceError naming the first parameter with NaN or infinity, and how many. Buffers may hold infinity, as masks do."""
    for name, tensor in module.named_parameters():
        refuse(source.spec, _name_in_source(name, source), tensor)
    for name, tensor in module.named_buffers():
        refuse(source.spec, _name_in_source(name, source), tensor, infinity=False)


def _name_in_source(name: str, source: Source) -> str:
    """Return how a tensor is called in the user's files; what comes after the encoder has a folder or a file of its own."""
    part, _, tensor = name.partition(".")
    if part == "head" and source.sentence_modules:
        number, _, tensor = tensor.partition(".")
        after = [module.folder.name for module in source.sentence_modules[1:]]
        return f"{tensor} of {after[int(number)]}" if int(number) < len(after) else name
    if part == "classifier" and source.head is not None:
        return f"{tensor} of {source.head.file.name}"
    return name.removeprefix("model.")


def refuse(place: str, name: str, tensor: Any, *, infinity: bool = True) -> None:
    """Raise SourceError where a torch tensor of floats holds NaN, or infinity unless that is allowed."""
    import torch

    if not tensor.is_floating_point():
        return
    nans, infinite = int(torch.isnan(tensor).sum()), int(torch.isinf(tensor).sum()) if infinity else 0
    if nans or infinite:
        raise SourceError(not_finite(place, name, nans, infinite, tensor.numel()))


def not_finite(place: str, name: str, nans: int, infinite: int, size: int) -> str:
    """Return the sentence that refuses a tensor with so many NaNs and infinities among its values."""
    counts = " and ".join(f"{n} {kind}" for n, kind in ((nans, "NaN"), (infinite, "infinite")) if n)
    return f"{place}: the tensor {name} has {counts} of {size} values: give an earlier checkpoint of the training, or replace them"
