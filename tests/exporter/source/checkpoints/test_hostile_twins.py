"""Every reader has hostile twins: truncated, with shapes that lie, with a part missing, and mixed with another form."""

import json
import math
import shutil
import struct
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from headway.errors import SourceError
from headway.exporter.source.checkpoints.read import all_forms
from headway.exporter.source.source import open_source

from tests.support import checkpoints
from tests.support.refused_at_once import at_once
from tests.support.twins import Sound

READERS = [form.__name__.rpartition(".")[2] for form in all_forms()]
OWN = {"torch_quantized"}
"""Readers of pickles alone: `test_torch_quantized.py` cuts and mixes them."""


def sound_of(reader: str) -> Sound | None:
    """Return the sound checkpoint of a reader's test file; None where the file has none, or where there is no such file."""
    place = f"tests.exporter.source.checkpoints.forms.test_{reader}"
    return getattr(import_module(place), "SOUND", None) if find_spec(place) else None


SOUND = {reader: sound for reader in READERS if (sound := sound_of(reader)) is not None}

HUGE = 1 << 44
"""Numbers that no machine has memory for."""

LARGE = 1 << 32
"""Numbers that a machine may have memory for: it would give it, and take long."""


def _headed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the header of a safetensors file, and leave the rest as it is."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    change(header)
    changed = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(changed)) + changed + raw[8 + length :])


def _truncated(path: Path, name: str) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _shape(path: Path, name: str) -> None:
    """Say another shape of a tensor than its bytes have."""
    _headed(path, lambda header: header[part_of(header, name)].update(shape=[HUGE, 3]))


def _bytes(path: Path, name: str, claimed: int = HUGE) -> None:
    """Say of a tensor that it is larger than the file, by its shape and by its bytes."""

    def change(header: dict[str, Any]) -> None:
        entry = header[part_of(header, name)]
        size = (entry["data_offsets"][1] - entry["data_offsets"][0]) // max(1, math.prod(entry["shape"]))
        entry["shape"] = [claimed]
        entry["data_offsets"][1] = entry["data_offsets"][0] + claimed * size

    _headed(path, change)


def part_of(header: dict[str, Any], name: str) -> str:
    assert name in header, f"{name} is not in the file: {list(header)[:20]}"
    return name


TWINS: dict[str, Callable[[Path, str], None]] = {
    "truncated": _truncated,
    "shape": _shape,
    "bytes": _bytes,
    "bytes that there might be": lambda path, name: _bytes(path, name, LARGE),
}


@pytest.fixture(scope="module", params=sorted(SOUND))
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    directory = tmp_path_factory.mktemp(request.param)
    SOUND[request.param].make(directory)
    return request.param, directory


def test_no_reader_is_without_twins() -> None:
    assert set(READERS) == SOUND.keys() | OWN and not SOUND.keys() & OWN


def test_the_sound_one_is_read(sound: tuple[str, Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = open_source(str(sound[1]))
    assert source.checkpoint is not None and source.checkpoint.sentences


@pytest.mark.parametrize("twin", TWINS)
def test_headers_that_lie_are_refused_at_once(twin: str, sound: tuple[str, Path], tmp_path: Path) -> None:
    directory = Path(shutil.copytree(sound[1], tmp_path / "m"))
    TWINS[twin](directory / "model.safetensors", SOUND[sound[0]].part)
    assert "model.safetensors" in checkpoints.refusal(directory)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on address space is Linux's")
def test_a_reader_that_takes_memory_as_a_header_claims_it_is_found() -> None:
    def read() -> None:
        try:
            np.empty(LARGE)
        except MemoryError as error:
            raise SourceError("damaged") from error

    with pytest.raises(AssertionError, match=r"memory as a file claims it: .*Unable to allocate"), at_once() as refused:
        with pytest.raises(SourceError) as caught:
            read()
        refused.append(caught.value)
    np.empty(1 << 20)


@pytest.mark.parametrize("twin", ["missing", "mixed"])
def test_parts_that_are_missing_or_too_many_are_refused_by_name(
    twin: str, sound: tuple[str, Path], tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(sound[1], tmp_path / "m"))
    state, form = checkpoints.tensors(directory), SOUND[sound[0]]
    assert form.part in state and form.more and not form.more.keys() & state.keys()
    names = [form.part] if twin == "missing" else list(form.more)
    state = {n: t for n, t in state.items() if n != form.part} if twin == "missing" else state | form.more
    with safe_open(directory / "model.safetensors", framework="pt") as file:
        notes = file.metadata()
    save_file(state, directory / "model.safetensors", notes)
    said = checkpoints.refusal(directory)
    assert any(name in said for name in (*names, *form.named)), said
