"""`headway kernels`: options, and the table of a measurement. What is built is tested with the kernels."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from headway.errors import UsageError
from headway.exporter.cli.kernel_verbs import _architectures
from headway.kernels.cpu import bench as kernel_bench
from headway.kernels.cpu import library_path

from tests.support.command_line import Headway


def test_architectures_are_read_and_sorted() -> None:
    assert _architectures(["sm_90, 80", "sm_80"]) == [80, 90]
    assert _architectures(None) == []
    with pytest.raises(UsageError, match=r"--arch hopper: compute capabilities are expected, as sm_80,sm_90"):
        _architectures(["hopper"])


def test_a_folder_that_is_there_is_not_replaced(headway: Headway, tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is published for Linux only")
    done = headway("kernels", "build", "-o", tmp_path)
    assert done.returncode == 2 and f"{tmp_path} exists; remove it, or give another --out" in done.stderr


@pytest.mark.parametrize(
    ("words", "widths"),
    [([], [32, 64]), (["--head-dim", 128], [128]), (["--head-dim", 16, "--head-dim", 80], [16, 80])],
)
def test_kernels_are_built_for_the_widths_that_are_given(
    words: list[object], widths: list[int], headway: Headway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton", reason="Triton is published for Linux only")
    from headway.kernels.triton import build as builder

    asked: list[int] = []

    def build(folder: Path, architectures: list[int], head_dims: Sequence[int], **_: object) -> dict[str, list]:
        asked.extend(head_dims)
        return {"kernels": []}

    monkeypatch.setattr(builder, "build", build)
    assert headway("kernels", "build", "-o", tmp_path / "out", "-q", *words).returncode == 0
    assert asked == widths


@pytest.mark.skipif(library_path() is None, reason="the kernels are not built here")
def test_a_measurement_is_shown(headway: Headway, monkeypatch: pytest.MonkeyPatch) -> None:
    row = kernel_bench.Measured("Gelu", "8x128", "memory", {"headway": [1.0, 1.0], "torch": [2.0, 2.0]}, 0.5)

    def measure(threads: int, rounds: int) -> Iterator[kernel_bench.Measured]:
        assert (threads, rounds) == (2, 7)
        yield row

    monkeypatch.setattr(kernel_bench, "measure", measure)
    shown = headway("kernels", "bench", "--threads", 2, "--rounds", 7).stdout
    assert "2 threads" in shown and "2.00" in shown and "50 % (memory)" in shown
    assert json.loads(headway("kernels", "bench", "--threads", 2, "--rounds", 7, "--json").stdout) == [row.to_json()]
