"""Read and write the tensors of the KServe v2 protocol: as JSON, or as bytes after it (Triton's binary extension)."""

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from .refusal import invalid

DATATYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""numpy's dtypes by the protocol's names."""

_MOST_DIMENSIONS = 8


def datatype_of(dtype: np.dtype) -> str:
    """Return the protocol's name of a numeric dtype."""
    return next(name for name, code in DATATYPES.items() if np.dtype(code) == dtype.newbyteorder("<"))


def read_tensor(name: str, datatype: str, shape: Sequence[Any], data: object) -> Any:
    """Return an array, or a list of texts for BYTES, of JSON values or bytes. Refusal where they do not fit the shape."""
    plain = len(shape) <= _MOST_DIMENSIONS and all(type(d) is int and 0 <= d < 1 << 31 for d in shape)
    if not plain:
        raise invalid(f"{name}: shape {str(shape)[:60]} is none")
    count = math.prod(shape)
    if datatype == "BYTES":
        texts = _texts_in(name, data) if isinstance(data, bytes) else _flat(data)
        if len(texts) != count or not all(isinstance(text, str) for text in texts):
            raise invalid(f"{name}: {count} texts are expected for the shape {list(shape)}")
        return texts
    if datatype not in DATATYPES:
        raise invalid(f"{name}: datatype {datatype[:20]!r} is not known; give one of BYTES, {', '.join(DATATYPES)}")
    dtype = np.dtype(DATATYPES[datatype])
    if isinstance(data, bytes):
        if len(data) != count * dtype.itemsize:
            raise invalid(
                f"{name}: {count * dtype.itemsize} bytes are expected for {datatype} {list(shape)}, not {len(data)}"
            )
        return np.frombuffer(data, dtype).reshape(shape)
    try:
        array = np.asarray(_flat(data))
        cast = array.astype(dtype)
        if array.size == count and array.dtype.kind in "iubf" and (dtype.kind == "f" or (cast == array).all()):
            return cast.reshape(shape)
    except (ValueError, OverflowError, TypeError):
        pass
    raise invalid(f"{name}: {count} numbers are expected for {datatype} {list(shape)}")


def _flat(data: object) -> list[Any]:
    """Return the values of nested lists in their order; the protocol takes both forms."""
    if not isinstance(data, list):
        raise invalid("data: a list is expected")
    flat = data
    for _ in range(_MOST_DIMENSIONS):
        if not any(isinstance(item, list) for item in flat):
            return flat
        flat = [inner for item in flat for inner in (item if isinstance(item, list) else [item])]
    raise invalid("data: nested too deeply")


def _texts_in(name: str, data: bytes) -> list[str]:
    """Return texts that each follow their length, a little-endian uint32."""
    texts, at = [], 0
    try:
        while at < len(data):
            (size,) = struct.unpack_from("<I", data, at)
            at += 4 + size
            if at > len(data):
                raise invalid(f"{name}: a text is longer than the bytes that were sent")
            texts.append(data[at - size : at].decode())
    except (struct.error, UnicodeDecodeError) as error:
        raise invalid(f"{name}: not a sequence of lengths and UTF-8 texts ({error})") from error
    return texts
