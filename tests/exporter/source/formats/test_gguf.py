"""GGUF files that lie about their sizes are refused before anything is allocated."""

import struct
import time
from pathlib import Path

import pytest

from headway.errors import SourceError
from headway.exporter.source.formats.gguf import read_gguf

from tests.checkpoints.gguf_files import F32, write_gguf

ONE = {"a.weight": (F32, (2, 2), bytes(16))}


def test_metadata_and_tensors_are_read(tmp_path: Path) -> None:
    metadata = {"name": "one", "count": 3, "half": 0.5, "yes": True, "words": ["a", "bc"], "numbers": [1, -2]}
    gguf = read_gguf(write_gguf(tmp_path / "a.gguf", metadata, {"a.weight": (F32, (2,), struct.pack("<2f", 1, 2))}))
    assert gguf.metadata == metadata
    assert gguf.tensors["a.weight"].read().tolist() == [1, 2]
    assert gguf.kinds == {"a.weight": "F32"}


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not a GGUF file"),
        (b"GGML" + bytes(60), "begins with"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "version 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 62, 0), "announces 4,611,686,018,427,387,904 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 60) + bytes(40), "bytes of text"),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 4, 1 << 50) + bytes(8),
            "values, more than",
        ),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<I", 77) + bytes(20), "unknown type 77"),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 0, 9_000_000) + bytes(9_000_000),
            "9,000,000 values in its metadata",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IQ", 8, 1 << 26) + bytes(1 << 26),
            "67,108,865 bytes of text in its header",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQIQ", 9, 9, 1, 9, 1) + bytes(40),
            "unknown type 9",
        ),
    ],
    # else an id would be the bytes themselves, four letters for each
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else None,
)
def test_headers_that_lie_are_refused_at_once(raw: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(raw)
    began = time.process_time()
    with pytest.raises(SourceError) as caught:
        read_gguf(tmp_path / "a.gguf")
    assert says in str(caught.value)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"a.weight": (F32, (1 << 30, 1 << 30), bytes(16))}, "in blocks of 1"),
        ({"a.weight": (F32, (1 << 30,), bytes(16))}, "truncated: a.weight ends"),
        ({"a.weight": (8, (2, 33), bytes(68))}, "[2, 33] in blocks of 32"),
        ({"a.weight": (10, (256,), bytes(84))}, "stored as Q2_K, and these are read: F32, F16"),
        ({"a.weight": (99, (256,), bytes(84))}, "stored as type 99 of ggml"),
        ({"a.weight": (F32, (1, 1, 1, 1, 4), bytes(16))}, "has 5 dimensions"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tensors: dict, says: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read_gguf(write_gguf(tmp_path / "a.gguf", {}, tensors))
    assert says in str(caught.value)


def test_any_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "a.gguf", {"words": ["a", "b"], "count": 1}, ONE).read_bytes()
    for size in range(4, len(whole) - 32, 7):
        (tmp_path / "b.gguf").write_bytes(whole[:size])
        with pytest.raises(SourceError):
            read_gguf(tmp_path / "b.gguf")


def test_a_tensor_begins_where_the_one_before_it_ends(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", {}, {"a": (F32, (8,), bytes(32)), "b": (F32, (8,), bytes(32))})
    whole = path.read_bytes()
    place = whole.index(struct.pack("<IQ", F32, 32))
    path.write_bytes(whole[:place] + struct.pack("<IQ", F32, 0) + whole[place + 12 :])
    with pytest.raises(SourceError, match="b begins at 0, and 32 is expected"):
        read_gguf(path)


def test_bytes_behind_the_last_tensor_are_refused(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "a.gguf", {}, ONE).read_bytes()
    (tmp_path / "a.gguf").write_bytes(whole + bytes(64))
    with pytest.raises(SourceError, match="64 bytes behind the last tensor"):
        read_gguf(tmp_path / "a.gguf")
