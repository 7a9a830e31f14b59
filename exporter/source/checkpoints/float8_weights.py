"""Dequantize weights in 8-bit floats: one scale, one for each output, or one for each block of outputs and inputs."""

from typing import Any

from ....errors import SourceError
from .checkpoint import Checkpoint
from .quantization import beside, per_group
from .state import StoredTensor


def dequantized(
    checkpoint: Checkpoint, name: str, scale_name: str, block: tuple[int, int] | None = None
) -> StoredTensor:
    """Return the weight `name` `[out, in]`, float8, times its scales, as float32. `block`: outputs and inputs of a scale.

    A last block may be smaller than the others. SourceError where scales are missing or do not fit.
    """
    weight = beside(checkpoint, scale_name, name)
    if len(weight.shape) != 2:
        raise SourceError(
            f"{checkpoint.directory}: {name} is {weight.dtype}{list(weight.shape)}, two axes are expected"
        )
    out, inputs = shape = weight.shape[0], weight.shape[1]
    if block is not None:
        wanted = -(-out // block[0]), -(-inputs // block[1])
        scale = beside(checkpoint, name, scale_name, wanted, integer=False)
        return StoredTensor(
            shape, "float32", lambda: weight.read().float() * _spread(scale.read().float(), block, shape)
        )
    read = per_group(checkpoint, name, scale_name, shape)

    def whole() -> Any:
        scales = read().float()
        return weight.read().float() * scales.repeat_interleave(inputs // scales.shape[1], dim=1)

    return StoredTensor(shape, "float32", whole)


def _spread(scale: Any, block: tuple[int, int], shape: tuple[int, int]) -> Any:
    """Return the scale of each number of a weight. A block may be said to be larger than the weight."""
    import torch

    rows, columns = (torch.arange(size) // step for size, step in zip(shape, block, strict=True))
    return scale[rows][:, columns]
