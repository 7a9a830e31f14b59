"""Rows of the benchmark of forms: each has a name of its own, and those that are not measured keep their figures."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import checkpoint_forms
from benchmarks.wide_checkpoints import ROWS, Row

BEFORE = {"rows": {row.name: {"bytes": 1} for row in ROWS[:4]}, "large": {"bytes": 2}}


def test_rows_have_names_of_their_own_and_sources(tmp_path: Path) -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    sources = {row.source(tmp_path) for row in ROWS}
    assert {str(tmp_path), str(tmp_path / "model.onnx")} <= sources
    assert all(":" in source or source.startswith(str(tmp_path)) for source in sources)


def test_rows_that_are_not_asked_for_keep_their_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[dict[str, Any]] = []

    def measured(row: Row, folder: Path, rounds: int) -> dict[str, Any]:
        return {"measured": row.name}

    monkeypatch.setattr(checkpoint_forms, "measured", measured)
    monkeypatch.setattr(checkpoint_forms, "kept", lambda name: BEFORE)
    monkeypatch.setattr(checkpoint_forms, "save", lambda name, content: saved.append(dict(content)))
    monkeypatch.setattr("sys.argv", ["checkpoint_forms", "--only", "Linformer"])
    checkpoint_forms.main()
    assert saved[-1]["rows"] == {**BEFORE["rows"], "Linformer": {"measured": "Linformer"}}
    assert saved[-1]["large"] == BEFORE["large"]
