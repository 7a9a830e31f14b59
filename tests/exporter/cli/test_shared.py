"""Values as they are typed, and how results are printed."""

import json
from pathlib import Path

import pytest

from headway.errors import UsageError
from headway.exporter.cli.shared import print_json, print_paths, read_number, read_shapes


@pytest.mark.parametrize(
    ("text", "unit", "number"),
    [("8ms", "ms", 8.0), ("0.5", "ms", 0.5), ("10-minutes", "-minutes", 10.0), ("1-minute", "-minutes", 1.0)],
)
def test_numbers_with_and_without_units(text: str, unit: str, number: float) -> None:
    assert read_number(text, unit, "--option") == number
    assert read_number(None, unit, "--option") is None


def test_other_numbers_name_the_option() -> None:
    with pytest.raises(UsageError, match=r"--latency 'soon': a number of ms is expected, as 8ms"):
        read_number("soon", "ms", "--latency")


def test_shapes() -> None:
    assert read_shapes(["8x128", "1X32"]) == [(8, 128), (1, 32)]
    assert read_shapes(None) == []
    for text in ("8", "8x", "x8", "1x2x3", "axb"):
        with pytest.raises(UsageError, match="texts x tokens is expected, as 8x128"):
            read_shapes([text])
    with pytest.raises(UsageError, match="at least 1"):
        read_shapes(["0x8"])


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"text": "ä", "path": None})
    print_paths([Path("a" * 200), Path("b [c]")])
    first, *paths = capsys.readouterr().out.splitlines()
    assert json.loads(first) == {"text": "ä", "path": None} and "ä" in first
    assert paths == ["a" * 200, "b [c]"]
