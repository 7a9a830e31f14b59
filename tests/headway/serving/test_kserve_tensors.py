"""Tensors of the KServe protocol: values and bytes."""

import struct
from typing import Any

import numpy as np
import pytest

from headway.serving.kserve_tensors import DATATYPES, datatype_of, read_tensor
from headway.serving.refusal import Refusal


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
def test_values_and_bytes_are_the_same(datatype: str) -> None:
    array = np.array([[0, 1], [1, 0], [1, 1]], DATATYPES[datatype])
    for data in (array.tolist(), array.reshape(-1).tolist(), array.tobytes()):
        given = read_tensor("x", datatype, [3, 2], data)
        assert given.dtype == array.dtype and np.array_equal(given, array)
    assert datatype_of(array.dtype) == datatype


def test_texts_as_values_and_bytes() -> None:
    texts = ["rain", "", "漢字"]
    packed = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)
    assert read_tensor("x", "BYTES", [3, 1], [[t] for t in texts]) == texts == read_tensor("x", "BYTES", [3], packed)


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("INT64", [2], [1]),
        ("INT64", [2], b"12345678"),
        ("INT64", [1], [1.5]),
        ("INT64", [2], [1, 1.5]),
        ("INT64", [1], ["1"]),
        ("INT64", [1], None),
        ("INT64", [1], [2**70]),
        ("INT64", [-1], [1]),
        ("INT64", [1 << 40], b""),
        ("INT64", [True], [1]),
        ("INT64", [2, 2], [[1, 2], [3]]),
        ("INT64", [1] * 9, [1]),
        ("UINT8", [1], [300]),
        ("COMPLEX", [1], [1]),
        ("BYTES", [2], ["a"]),
        ("BYTES", [1], [1]),
        ("BYTES", [1], b"\x05\0\0\0abc"),
        ("BYTES", [1], b"\x01\0"),
        ("BYTES", [1], b"\x01\0\0\0\xff"),
        ("FP32", [1], [[[[[[[[[[1]]]]]]]]]]),
    ],
)
def test_what_does_not_fit_is_refused(datatype: str, shape: list[Any], data: object) -> None:
    with pytest.raises(Refusal):
        read_tensor("x", datatype, shape, data)
