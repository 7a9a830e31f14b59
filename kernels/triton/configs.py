"""Choose tiles: the candidates, and the one that a launch takes.

Triton's own autotuner times candidates at the first call of each shape: that call takes seconds, and two runs of one program
may differ in their last bits. Here a launch looks its tile up in `configs.json`. `python benchmarks/gpu/kernels.py --tune`
times the candidates on this machine's GPU and writes the fastest there, with the device's name. A key that was never measured
takes the default below, which fits the shared memory of every architecture and is not measured.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

TABLE = Path(__file__).with_name("configs.json")

ARCHITECTURES = (80, 86, 87, 89, 90, 100, 120)
"""Compute capabilities that the kernels are built for."""

SHARED_BYTES = {80: 166_912, 86: 101_376, 87: 166_912, 89: 101_376, 90: 232_448, 100: 232_448, 120: 101_376}
"""Bytes of shared memory that one block may use. Source: CUDA C++ Programming Guide, table of technical specifications."""

HEAD_DIMS = (16, 128)
"""Smallest and largest head_dim."""

LONGEST_TILE = 16_384
"""Columns of a softmax row that one block holds in registers; longer rows are read twice."""

SHORT = 48
"""Tokens: sequences whose mean length is at most this are tiled as short ones."""


@dataclass(frozen=True)
class AttentionConfig:
    """A block takes `block_m` queries of a head and goes over their keys `block_n` at a time, loading `stages - 1` ahead."""

    block_m: int
    block_n: int
    warps: int
    stages: int


@dataclass(frozen=True)
class SoftmaxConfig:
    """A block takes `rows` rows, each in one tile of the next power of two of the row's length; longer rows in pieces."""

    rows: int
    warps: int


def power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least `n`."""
    return 1 << (n - 1).bit_length() if n > 1 else 1


def padded_dim(head_dim: int) -> int:
    """Return the width of the tile of a head: tensor cores need at least 16, and Triton's tiles are powers of two."""
    return max(16, power_of_two(head_dim))


def attention_config(arch: int, head_dim: int, itemsize: int, mean_length: float, bias: bool) -> AttentionConfig:
    """Return the tile for a compute capability, padded head_dim, bytes per element, mean length, and bias or none."""
    measured = _table()["attention"].get(attention_key(arch, head_dim, itemsize, mean_length, bias))
    if measured:
        return AttentionConfig(**measured["config"])
    return _default_attention(head_dim, itemsize, mean_length, bias)


def softmax_config(arch: int, columns: int) -> SoftmaxConfig:
    """Return the tile for a compute capability and the next power of two of the row's length."""
    measured = _table()["softmax"].get(softmax_key(arch, columns))
    return SoftmaxConfig(**measured["config"]) if measured else _default_softmax(columns)


def attention_key(arch: int, head_dim: int, itemsize: int, mean_length: float, bias: bool) -> str:
    """Return the key of a tile in the table."""
    kind = f"{'short' if mean_length <= SHORT else 'long'}{' bias' if bias else ''}"
    return f"sm_{arch} head_dim {padded_dim(head_dim)} bytes {itemsize} {kind}"


def softmax_key(arch: int, columns: int) -> str:
    """Return the key of a tile in the table."""
    return f"sm_{arch} columns {power_of_two(columns)}"


def attention_candidates(arch: int, head_dim: int, itemsize: int) -> Iterator[AttentionConfig]:
    """Yield tiles whose queries, keys and values fit the shared memory; the compiler may still refuse them."""
    for block_m, block_n, warps, stages in (
        (16, 16, 1, 2), (16, 32, 1, 2), (32, 32, 2, 2), (32, 64, 4, 2), (64, 32, 4, 2), (64, 32, 4, 3), (64, 64, 4, 2),
        (64, 64, 4, 3), (64, 64, 4, 4), (64, 128, 4, 2), (128, 32, 4, 3), (128, 64, 4, 2), (128, 64, 4, 3), (128, 64, 8, 3),
        (128, 128, 8, 2), (128, 128, 8, 3),
    ):  # fmt: skip
        if (block_m + 2 * block_n * stages) * padded_dim(head_dim) * itemsize <= SHARED_BYTES[arch]:
            yield AttentionConfig(block_m, block_n, warps, stages)


def softmax_candidates(columns: int) -> Iterator[SoftmaxConfig]:
    """Yield tiles of 1,024 to 8,192 elements, or one long row, with 4 to 64 elements per thread."""
    tile = min(power_of_two(columns), LONGEST_TILE)
    for elements in (1024, 2048, 4096, 8192, 16_384):
        for warps in (1, 2, 4, 8, 16):
            if (tile <= elements <= 8192 or tile == elements) and 4 <= elements // (32 * warps) <= 64:
                yield SoftmaxConfig(elements // tile, warps)


def record(kind: str, key: str, config: AttentionConfig | SoftmaxConfig, device: str, microseconds: float) -> None:
    """Write the fastest tile of a device into the table."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    table[kind][key] = {"config": asdict(config), "device": device, "microseconds": round(microseconds, 2)}
    for op in ("attention", "softmax"):
        table[op] = dict(sorted(table[op].items()))
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    _table.cache_clear()


def measured_on(kind: str, key: str) -> str | None:
    """Return the device whose fastest tile the table has; None where no device was measured."""
    measured = _table()[kind].get(key)
    return measured["device"] if measured else None


def _default_attention(head_dim: int, itemsize: int, mean_length: float, bias: bool) -> AttentionConfig:
    wide = padded_dim(head_dim) * itemsize > 128
    if itemsize == 4:  # no tensor cores in full float32: sums are in registers, which a larger tile spills
        return AttentionConfig(32, 32, 8, 1)
    if mean_length <= SHORT:
        return AttentionConfig(32, 32, 4 if wide else 2, 2)
    if wide or bias:  # a tile of bias takes registers: wider ones spilled
        return AttentionConfig(64, 32, 4, 2)
    return AttentionConfig(64, 64, 4, 3)


def _default_softmax(columns: int) -> SoftmaxConfig:
    tile = min(power_of_two(columns), LONGEST_TILE)
    return SoftmaxConfig(max(1, 2048 // tile), min(16, max(4, tile // 1024)))


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, dict]]:
    return json.loads(TABLE.read_text(encoding="utf-8"))
