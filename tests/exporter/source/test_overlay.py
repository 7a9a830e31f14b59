"""Files of two directories look like one, the first one's first."""

from pathlib import Path

import pytest

from headway.exporter.source.overlay import origin_of, overlay


def test_the_first_directory_counts(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for file in ("both.txt", f"{name}.txt", "gone.txt"):
            (tmp_path / name / file).write_text(name)
    laid = overlay([tmp_path / "one", tmp_path / "two"], without=("gone.txt",), config={"a": 1})
    assert laid.name == "one"
    texts = {path.name: path.read_text() for path in laid.iterdir()}
    assert texts == {"both.txt": "one", "one.txt": "one", "two.txt": "two", "config.json": '{"a": 1}'}


def test_a_directory_may_be_named_by_a_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the folder of `model.gguf` is, where the command runs beside the file."""
    (tmp_path / "one.txt").write_text("one")
    monkeypatch.chdir(tmp_path)
    assert [path.name for path in overlay([Path("model.gguf").parent]).iterdir()] == ["one.txt"]


def test_messages_name_what_the_user_gave(tmp_path: Path) -> None:
    """Also for a directory laid over one that was laid out from a file."""
    home = tmp_path / "home"
    (home / "inner").mkdir(parents=True)
    (home / "model.gguf").write_text("")
    laid = overlay([home], origin=home / "model.gguf")
    assert origin_of(laid) == origin_of(laid / "config.json") == home / "model.gguf"
    assert origin_of(overlay([laid])) == home / "model.gguf"
    plain = overlay([home])
    assert origin_of(plain / "inner" / "config.json") == home / "inner" / "config.json"
    assert origin_of(home) == home
