"""Find the files that an ONNX model keeps its weights in, without reading the weights. Needs nothing but Python.

Why our own: the library onnx is no part of what production installs, and these names have to be known before a runtime follows them.
The fields and their numbers are those of onnx.proto (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto).
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from ..errors import SourceError

_MESSAGES = {
    "model": {7: "graph", 25: "function", 20: "training"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""By message, the fields that lead to an entry of a tensor's external data."""

_MOST_DEPTH = 64


def external_files(model: Path) -> set[str]:
    """Return the names of the files that an ONNX model refers to, as they stand in it. SourceError where it is no ONNX model."""
    names: set[str] = set()
    try:
        with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for start, end in _entries(content, 0, len(content), "model", 0):
                texts = {number: content[a:b] for number, a, b in _fields(content, start, end)}
                if texts.get(1) == b"location":
                    names.add(texts.get(2, b"").decode("utf-8"))
    except OSError as error:
        raise SourceError(f"{model}: cannot be read ({error.strerror})") from error
    except (ValueError, IndexError) as error:  # of mmap where the file is empty, and of bytes that are no message
        raise SourceError(f"{model}: not an ONNX model, or damaged; copy it again") from error
    return names


def _entries(content: mmap.mmap, start: int, end: int, message: str, depth: int) -> Iterator[tuple[int, int]]:
    if depth > _MOST_DEPTH:
        raise ValueError("nested too deep")
    inner = _MESSAGES[message]
    for number, a, b in _fields(content, start, end):
        kind = inner.get(number)
        if kind == "entry":
            yield a, b
        elif kind is not None:
            yield from _entries(content, a, b, kind, depth + 1)


def _fields(content: mmap.mmap, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number, start and end of each field that has a length; others are skipped."""
    while position < end:
        key, position = _varint(content, position)
        wire = key & 7
        if wire == 2:
            length, position = _varint(content, position)
            if position + length > end:
                raise ValueError("a field is longer than what holds it")
            yield key >> 3, position, position + length
            position += length
        elif wire == 0:
            _, position = _varint(content, position)
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        else:
            raise ValueError("no such kind of field")


def _varint(content: mmap.mmap, position: int) -> tuple[int, int]:
    value = content[position]
    position += 1
    if value < 128:
        return value, position
    value &= 127
    for shift in range(7, 70, 7):
        byte = content[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number has more than ten bytes")
