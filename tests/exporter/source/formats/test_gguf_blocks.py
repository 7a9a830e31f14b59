"""Blocks are dequantized as their definition says, number by number."""

import numpy as np
import pytest

from headway.exporter.source.formats.gguf_blocks import BLOCKS, dequantize


def _half(raw: np.ndarray, at: int) -> np.float32:
    return np.float32(raw[at : at + 2].view(np.float16)[0])


def _by_32(raw: np.ndarray, name: str) -> list[np.float32]:
    """Return the 32 numbers of a block, one by one."""
    scale, minimum = _half(raw, 0), np.float32(0)
    at = 2
    if name.endswith("1"):
        minimum, at = _half(raw, 2), 4
    fifths = [0] * 32
    if name.startswith("Q5"):
        bits = int.from_bytes(raw[at : at + 4].tobytes(), "little")
        fifths, at = [bits >> i & 1 for i in range(32)], at + 4
    numbers = []
    for i in range(32):
        if name == "Q8_0":
            q = int(raw[at + i].view(np.int8))
        else:
            byte = int(raw[at + i % 16])
            q = (byte & 15 if i < 16 else byte >> 4) + 16 * fifths[i]
            q -= {"Q4_0": 8, "Q5_0": 16}.get(name, 0)
        numbers.append(scale * np.float32(q) + minimum)
    return numbers


def _scale_and_minimum(packed: np.ndarray, group: int) -> tuple[int, int]:
    p = [int(b) for b in packed]
    if group < 4:
        return p[group] & 63, p[group + 4] & 63
    return p[group + 4] & 15 | (p[group - 4] >> 6) << 4, p[group + 4] >> 4 | (p[group] >> 6) << 4


def _by_256(raw: np.ndarray, name: str) -> list[np.float32]:
    numbers = []
    for i in range(256):
        if name == "Q6_K":
            half, inner = divmod(i, 128)
            quarter, at = divmod(inner, 32)
            low = int(raw[half * 64 + at + 32 * (quarter % 2)])
            q = (low & 15 if quarter < 2 else low >> 4) | (int(raw[128 + half * 32 + at]) >> 2 * quarter & 3) << 4
            numbers.append(_half(raw, 208) * np.float32(raw[192 + i // 16].view(np.int8)) * np.float32(q - 32))
            continue
        scale, minimum = _scale_and_minimum(raw[4:16], i // 32)
        byte = int(raw[(48 if name == "Q5_K" else 16) + i // 64 * 32 + i % 32])
        q = byte & 15 if i // 32 % 2 == 0 else byte >> 4
        if name == "Q5_K":
            q += 16 * (int(raw[16 + i % 32]) >> i // 32 & 1)
        numbers.append(_half(raw, 0) * np.float32(scale) * np.float32(q) - _half(raw, 2) * np.float32(minimum))
    return numbers


@pytest.mark.parametrize("kind", [k for k, block in BLOCKS.items() if block.elements > 1])
def test_integers_are_scaled(kind: int) -> None:
    block = BLOCKS[kind]
    rng = np.random.default_rng(kind)
    raw = rng.integers(0, 256, (3, block.bytes), dtype=np.uint8)
    for at in (208,) if block.name == "Q6_K" else (0, 2):  # scales and minima that are finite
        raw[:, at : at + 2] = rng.normal(size=(3, 1)).astype(np.float16).view(np.uint8)
    one_by_one = _by_256 if block.elements == 256 else _by_32
    wanted = np.array([one_by_one(row, block.name) for row in raw], np.float32)
    assert np.array_equal(dequantize(raw.reshape(-1), kind), wanted.reshape(-1))


@pytest.mark.parametrize(("kind", "dtype"), [(0, np.float32), (1, np.float16)])
def test_floats_stay(kind: int, dtype: type) -> None:
    array = np.array([1.5, -2.25, 0], dtype)
    assert dequantize(array.view(np.uint8), kind).tolist() == [1.5, -2.25, 0]


def test_bfloat16_are_the_upper_halves() -> None:
    halves = (np.array([1.5, -2.25], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    assert dequantize(halves.view(np.uint8), 30).tolist() == [1.5, -2.25]
