"""Two names change places in one step, or it is said that the system cannot."""

from pathlib import Path

import pytest

from headway.exporter.publish import exchange as module
from headway.exporter.publish.exchange import exchange, move_to_free


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "file").write_text(text)
    return path


@pytest.mark.skipif(module._call() is None, reason="this system has no renameat2")
def test_two_names_change_places(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", "a"), folder(tmp_path / "b", "b")
    assert exchange(a, b)
    assert ((a / "file").read_text(), (b / "file").read_text()) == ("b", "a")
    with pytest.raises(FileNotFoundError):
        exchange(a, tmp_path / "missing")


def test_a_system_without_the_call_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_call", lambda: None)
    a, b = folder(tmp_path / "a", "a"), folder(tmp_path / "b", "b")
    assert not exchange(a, b) and (a / "file").read_text() == "a"


@pytest.mark.parametrize("call", [True, False])
def test_a_name_that_is_taken_is_not_replaced(call: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not call:
        monkeypatch.setattr(module, "_call", lambda: None)
    a, b = folder(tmp_path / "a", "a"), folder(tmp_path / "b", "b")
    with pytest.raises(FileExistsError):
        move_to_free(a, b)
    assert (b / "file").read_text() == "b"
    move_to_free(a, tmp_path / "c")
    assert (tmp_path / "c" / "file").read_text() == "a" and not a.exists()
