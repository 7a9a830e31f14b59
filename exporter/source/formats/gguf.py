"""Read GGUF files: metadata, and tensors that are dequantized when they are read.

The layout is that of the public GGUF specification, versions 2 and 3: little-endian, counts of 64 bits.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import SourceError
from ..checkpoints.integers import Integers, IntegerWeight
from ..checkpoints.state import StoredTensor
from .gguf_blocks import BLOCKS, OTHERS, dequantize

_MAGIC = b"GGUF"
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 4
_MOST_ELEMENTS = 1 << 40
_MOST_ENTRIES = 1 << 20
_MOST_VALUES = 1 << 23
_MOST_TEXT = 1 << 26
_DEEPEST = 2
_LONGEST_NAME = 256


@dataclass(frozen=True)
class Gguf:
    """The metadata of a file by key, and its tensors by name: float32 when they are read, `kinds` has how they are stored.

    `integers` are those of weights that are integers times scales.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    kinds: Mapping[str, str]
    integers: Mapping[str, Integers] = field(default_factory=dict)


class _Cursor:
    """Reads numbers and strings one after the other, and never beyond the end of the file."""

    def __init__(self, path: Path, data: mmap.mmap):
        self.path, self.data, self.at = path, data, 0
        self.values, self.letters = 0, 0

    def take(self, size: int) -> int:
        """Return where the next `size` bytes begin, and go behind them."""
        begin = self.at
        if size > len(self.data) - begin:
            raise SourceError(
                f"{self.path}: truncated or damaged: {size:,} bytes are announced at {begin:,}; download it again"
            )
        self.at = begin + size
        return begin

    def number(self, form: str) -> Any:
        return struct.unpack_from(f"<{form}", self.data, self.take(struct.calcsize(f"<{form}")))[0]

    def count(self, what: str, smallest: int) -> int:
        """Return a count of things that take at least `smallest` bytes each. SourceError where the file cannot hold so many."""
        count = int(self.number("Q"))
        if count > (len(self.data) - self.at) // smallest:
            raise SourceError(
                f"{self.path}: damaged: it announces {count:,} {what}, more than its bytes can hold; download it again"
            )
        return count

    def text(self) -> str:
        size = self.count("bytes of text", 1)
        self.letters += size
        if self.letters > _MOST_TEXT:
            raise SourceError(f"{self.path}: damaged: {self.letters:,} bytes of text in its header; download it again")
        begin = self.take(size)
        return self.data[begin : begin + size].decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY or depth >= _DEEPEST:
            raise SourceError(f"{self.path}: damaged: metadata of an unknown type {kind}; download it again")
        inner = int(self.number("I"))
        form = _SCALARS.get(inner)
        count = self.count("values", struct.calcsize(f"<{form}") if form else 8)
        self.values += count
        if self.values > _MOST_VALUES:
            raise SourceError(f"{self.path}: damaged: {self.values:,} values in its metadata; download it again")
        if form:
            begin = self.take(count * struct.calcsize(f"<{form}"))
            return list(struct.unpack_from(f"<{count}{form}", self.data, begin))
        return [self.value(inner, depth + 1) for _ in range(count)]


def read_gguf(path: Path) -> Gguf:
    """Return what a GGUF file holds. SourceError where it is damaged, or stores tensors in a way that is not read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(path, data)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: not a GGUF file ({error})") from error


def _read(path: Path, data: mmap.mmap) -> Gguf:
    cursor = _Cursor(path, data)
    if data[:4] != _MAGIC:
        raise SourceError(f"{path}: not a GGUF file: it begins with {data[:4]!r}")
    cursor.take(4)
    version = cursor.number("I")
    if version not in (2, 3):
        raise SourceError(f"{path}: GGUF version {version}, and versions 2 and 3 are read: convert it again")
    tensors, entries = cursor.count("tensors", 24), cursor.count("entries of metadata", 13)
    if max(tensors, entries) > _MOST_ENTRIES:
        raise SourceError(f"{path}: damaged: {max(tensors, entries):,} entries in its header; download it again")
    metadata: dict[str, Any] = {}
    for _ in range(entries):
        key = cursor.text()
        if len(key) > _LONGEST_NAME or not key.isprintable():
            raise SourceError(f"{path}: damaged: a key is called {key[:40]!r}; download it again")
        if key in metadata:
            raise SourceError(f"{path}: damaged: the key {key} is there twice; download it again")
        metadata[key] = cursor.value(int(cursor.number("I")))
    infos = [_info(cursor) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 8 <= alignment <= 1 << 16 or alignment % 8:
        raise SourceError(f"{path}: general.alignment = {alignment!r}: a multiple of 8 is expected")
    begin = -(-cursor.at // alignment) * alignment
    stored, kinds, integers = {}, {}, {}
    expected = 0
    for name, shape, kind, offset in infos:
        if name in stored:
            raise SourceError(f"{path}: damaged: the tensor {name} is there twice; download it again")
        stored[name] = _tensor(path, len(data), name, shape, kind, begin + offset)
        if offset != expected:
            raise SourceError(
                f"{path}: damaged: {name} begins at {offset:,}, and {expected:,} is expected; download it again"
            )
        expected += -(-_size(shape, kind) // alignment) * alignment
        kinds[name] = BLOCKS[kind].name
        if BLOCKS[kind].integers is not None and len(shape) == 2:
            integers[name] = _integers(path, shape, kind, begin + offset)
    surplus = len(data) - begin - expected
    if stored and surplus > 0:
        raise SourceError(f"{path}: damaged: {surplus:,} bytes behind the last tensor; download it again")
    return Gguf(path, metadata, stored, kinds, integers)


def _info(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Return the name, shape (outermost first), kind and offset of a tensor."""
    name = cursor.text()
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise SourceError(f"{cursor.path}: damaged: a tensor is called {name[:40]!r}; download it again")
    dimensions = int(cursor.number("I"))
    if dimensions > _MOST_DIMENSIONS:
        raise SourceError(f"{cursor.path}: damaged: {name} has {dimensions} dimensions; download it again")
    shape = tuple(int(cursor.number("Q")) for _ in range(dimensions))[::-1]
    return name, shape, int(cursor.number("I")), int(cursor.number("Q"))


def _tensor(path: Path, size: int, name: str, shape: tuple[int, ...], kind: int, begin: int) -> StoredTensor:
    block = BLOCKS.get(kind)
    if block is None:
        known = ", ".join(b.name for b in BLOCKS.values())
        raise SourceError(
            f"{path}: {name} is stored as {OTHERS.get(kind, f'type {kind} of ggml')}, and these are read: {known}: quantize the model "
            "to one of them"
        )
    if prod(shape) > _MOST_ELEMENTS or not shape or 0 in shape or shape[-1] % block.elements:
        raise SourceError(f"{path}: damaged: {name} is {list(shape)} in blocks of {block.elements}; download it again")
    length = _size(shape, kind)
    if begin + length > size:
        raise SourceError(f"{path}: truncated: {name} ends at byte {begin + length:,} of {size:,}; download it again")

    def read() -> Any:
        import torch

        numbers = dequantize(_bytes(path, shape, kind, begin), kind)
        if block.elements > 1 and not np.isfinite(numbers).all():
            raise SourceError(f"{path}: {name} has scales that are not finite; download it again")
        return torch.from_numpy(numbers.reshape(shape))

    return StoredTensor(shape, "float32", read)


def _integers(path: Path, shape: tuple[int, ...], kind: int, begin: int) -> Integers:
    """Return the integers of a tensor `[out, in]`, whose bytes `_tensor` found to be there."""
    block, (rows, width) = BLOCKS[kind], shape

    def read() -> IntegerWeight:
        import torch

        assert block.integers is not None
        codes, scales = block.integers(_bytes(path, shape, kind, begin).reshape(-1, block.bytes))
        return IntegerWeight(
            torch.from_numpy(codes.reshape(rows, width)), torch.from_numpy(scales.reshape(rows, -1)), block.bits
        )

    return Integers((rows, width), read)


def _bytes(path: Path, shape: tuple[int, ...], kind: int, begin: int) -> np.ndarray:
    return np.fromfile(path, np.uint8, _size(shape, kind), offset=begin)


def _size(shape: tuple[int, ...], kind: int) -> int:
    return prod(shape) // BLOCKS[kind].elements * BLOCKS[kind].bytes
