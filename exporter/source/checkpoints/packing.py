"""Unpack integers of a few bits from wider ones. Imports torch when it unpacks."""

from typing import Any

import numpy as np


def from_stream(words: Any, bits: int, count: int) -> Any:
    """Return the first `count` integers of each row, uint8 `[rows, count]`, lowest bits first, across the borders of words.

    `words` is an integer tensor `[rows, words]` of any width; `bits` is 1 to 8.
    """
    import torch

    octets = np.ascontiguousarray(words.numpy()).view(np.uint8).reshape(len(words), -1)
    if bits == 8:
        return torch.from_numpy(octets[:, :count].copy())
    flags = np.unpackbits(octets, axis=1, bitorder="little")[:, : count * bits].reshape(len(octets), count, bits)
    return torch.from_numpy(np.packbits(flags, axis=2, bitorder="little")[..., 0])


def from_words(words: Any, bits: int, count: int) -> Any:
    """Return the first `count` integers of each row of an int32 tensor, uint8 `[rows, count]`, lowest bits first.

    A word holds 32 ÷ `bits` integers, and none lies across two words.
    """
    import torch

    shifts = torch.arange(0, 32 - bits + 1, bits, dtype=torch.int32)
    parts = (words.to(torch.int32)[:, :, None] >> shifts) & (2**bits - 1)
    return parts.reshape(len(words), -1)[:, :count].to(torch.uint8)
