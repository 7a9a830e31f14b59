"""Dequantize the blocks of ggml's tensor types, exactly as their definition says: a scale, sometimes a minimum, and integers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Block:
    """How a type stores numbers: `elements` of them in `bytes`. `floats` takes uint8 `[blocks, bytes]` to float32 `[blocks, elements]`.

    `integers`, of types without a minimum, takes the same to int8 `[blocks, elements]` of `bits` bits, and to float32
    `[blocks, groups]`, the scales of equal groups of them.
    """

    name: str
    elements: int
    bytes: int
    floats: Callable[[Array], Array]
    integers: Callable[[Array], tuple[Array, Array]] | None = None
    bits: int = 0


def dequantize(raw: Array, kind: int) -> Array:
    """Return the float32 numbers of a tensor's bytes."""
    block = BLOCKS[kind]
    return block.floats(raw.reshape(-1, block.bytes)).reshape(-1)


def _scaled(
    name: str, elements: int, nbytes: int, integers: Callable[[Array], tuple[Array, Array]], bits: int
) -> Block:
    """Return a type whose numbers are integers times scales."""

    def floats(raw: Array) -> Array:
        codes, scales = integers(raw)
        return (scales[..., None] * codes.reshape(*scales.shape, -1)).reshape(codes.shape)

    return Block(name, elements, nbytes, floats, integers, bits)


def _half(raw: Array, at: int) -> Array:
    """Return the 16-bit float at a byte of each block as float32 `[blocks, 1]`."""
    return np.ascontiguousarray(raw[:, at : at + 2]).view(np.float16).astype(np.float32)


def _nibbles(raw: Array) -> Array:
    """Return 4-bit integers: the low halves of all bytes, then the high ones."""
    return np.concatenate([raw & 15, raw >> 4], axis=1).astype(np.int8)


def _bits(raw: Array) -> Array:
    """Return the bits of bytes, lowest first, as 0 or 1."""
    return np.unpackbits(np.ascontiguousarray(raw), axis=1, bitorder="little").astype(np.int8)


def _plain(kind: str) -> Callable[[Array], Array]:
    return lambda raw: np.ascontiguousarray(raw).view(kind).astype(np.float32)


def _bfloat16(raw: Array) -> Array:
    return (np.ascontiguousarray(raw).view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _q8_0(raw: Array) -> tuple[Array, Array]:
    return raw[:, 2:].view(np.int8), _half(raw, 0)


def _q4_0(raw: Array) -> tuple[Array, Array]:
    return _nibbles(raw[:, 2:]) - 8, _half(raw, 0)


def _q4_1(raw: Array) -> Array:
    return _half(raw, 0) * _nibbles(raw[:, 4:]) + _half(raw, 2)


def _q5_0(raw: Array) -> tuple[Array, Array]:
    return _nibbles(raw[:, 6:]) + (_bits(raw[:, 2:6]) << 4) - 16, _half(raw, 0)


def _q5_1(raw: Array) -> Array:
    return _half(raw, 0) * (_nibbles(raw[:, 8:]) + (_bits(raw[:, 4:8]) << 4)) + _half(raw, 2)


def _scales_and_minima(raw: Array) -> tuple[Array, Array]:
    """Return the 6-bit scales and minima of 8 groups from 12 bytes: the last four of each are split over two places."""
    low, middle, high = raw[:, 0:4], raw[:, 4:8], raw[:, 8:12]
    scales = np.concatenate([low & 63, (high & 15) | (low >> 6 << 4)], axis=1)
    minima = np.concatenate([middle & 63, (high >> 4) | (middle >> 6 << 4)], axis=1)
    return scales.astype(np.float32), minima.astype(np.float32)


def _grouped(raw: Array, integers: Array) -> Array:
    """Return `[blocks, 8, 32]` integers scaled by group: d·scale·q minus dmin·minimum."""
    scales, minima = _scales_and_minima(raw[:, 4:16])
    spread = (_half(raw, 0) * scales)[..., None] * integers - (_half(raw, 2) * minima)[..., None]
    return spread.reshape(len(raw), 256)


def _interleaved(raw: Array) -> Array:
    """Return 4-bit integers `[blocks, 8, 32]`: groups of 32 bytes hold two groups of numbers, in low and high halves."""
    pairs = raw.reshape(-1, 4, 1, 32)
    return np.concatenate([pairs & 15, pairs >> 4], axis=2).reshape(-1, 8, 32)


def _q4_k(raw: Array) -> Array:
    return _grouped(raw, _interleaved(raw[:, 16:]))


def _q5_k(raw: Array) -> Array:
    fifth = raw[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[None, :, None] & 1
    return _grouped(raw, _interleaved(raw[:, 48:]) + (fifth << 4))


def _q6_k(raw: Array) -> tuple[Array, Array]:
    low, high = raw[:, :128].reshape(-1, 2, 64), raw[:, 128:192].reshape(-1, 2, 32)
    fours = np.stack([low[..., :32] & 15, low[..., 32:] & 15, low[..., :32] >> 4, low[..., 32:] >> 4], axis=2)
    twos = np.stack([high >> shift & 3 for shift in (0, 2, 4, 6)], axis=2)
    integers = (fours | twos << 4).astype(np.int8) - 32
    scales = np.ascontiguousarray(raw[:, 192:208]).view(np.int8).astype(np.float32)
    return integers.reshape(len(raw), 256), _half(raw, 208) * scales


BLOCKS = {
    0: Block("F32", 1, 4, _plain("<f4")),
    1: Block("F16", 1, 2, _plain("<f2")),
    2: _scaled("Q4_0", 32, 18, _q4_0, 4),
    3: Block("Q4_1", 32, 20, _q4_1),
    6: _scaled("Q5_0", 32, 22, _q5_0, 5),
    7: Block("Q5_1", 32, 24, _q5_1),
    8: _scaled("Q8_0", 32, 34, _q8_0, 8),
    12: Block("Q4_K", 256, 144, _q4_k),
    13: Block("Q5_K", 256, 176, _q5_k),
    14: _scaled("Q6_K", 256, 210, _q6_k, 6),
    30: Block("BF16", 1, 2, _bfloat16),
}
"""Types that are read, by ggml's numbers."""

OTHERS = {9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S"}
OTHERS |= {20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64"}
OTHERS |= {29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0"}
"""Names of types that are not read, by ggml's numbers."""

SHIFTED = frozenset(b.name for b in BLOCKS.values() if b.elements > 1 and b.integers is None)
"""Types with a minimum for each block."""
