"""Questions from options and the bundle's recipe; what was found is written."""

from pathlib import Path

import pytest

from headway.errors import UsageError
from headway.exporter import api
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.validate import gate_bundle as module

from tests.support.gating import blocks


def test_gates_of_the_recipe_hold_and_options_replace_them(
    monkeypatch: pytest.MonkeyPatch, bert_classifier: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "run_block", blocks())
    recipe = Recipe(source=str(bert_classifier), gates={"max_mb": 5, "cold_start_ms": 50})
    bundle = export(recipe, tmp_path / "bundle").path
    assert "cold_start_ms: 50" in (bundle / "recipe.yaml").read_text(encoding="utf-8")
    assert api.gate(bundle, mode="quick").verdict == "fail"
    result = api.gate(bundle, mode="quick", gates={"cold_start_ms": "200"}, out=tmp_path / "out")
    assert [row.gate for row in result.rows] == ["max_mb", "cold_start_ms"] and result.verdict == "pass"
    assert [file.name for file in result.files] == ["gate.json", "gate.xml", "gate.md"]


def test_a_lock_is_written_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, bert_bundle: Exported, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "run_block", blocks())
    result = api.gate(bert_bundle.path, mode="quick", lock=True, out=tmp_path / "out")
    assert result.files[0] == tmp_path / "out" / "headway.lock" and result.files[0].is_file()
    monkeypatch.setattr(module, "run_block", blocks(crash_after=3))
    result = api.gate(bert_bundle.path, mode="quick", lock=True, out=tmp_path / "crashed")
    assert result.crash and not (tmp_path / "crashed" / "headway.lock").exists()


def test_a_lock_that_was_missed_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch, bert_bundle: Exported, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "run_block", blocks())
    (lock,) = api.gate(bert_bundle.path, mode="quick", lock=True, out=tmp_path).files[:1]
    before = lock.read_bytes()
    monkeypatch.setattr(module, "run_block", blocks(2.0))
    result = api.gate(bert_bundle.path, mode="quick", baseline=lock, lock=True, out=tmp_path)
    assert result.verdict == "fail" and lock.read_bytes() == before


def test_a_gate_of_the_recipe_can_be_taken_back(
    monkeypatch: pytest.MonkeyPatch, bert_classifier: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "run_block", blocks())
    recipe = Recipe(source=str(bert_classifier), gates={"max_mb": 5, "parity": True})
    bundle = export(recipe, tmp_path / "bundle").path
    result = api.gate(bundle, mode="quick", gates={"parity": "false"})
    assert [row.gate for row in result.rows] == ["max_mb"]


@pytest.mark.parametrize(
    ("gates", "mode", "message"),
    [
        ({"p98_ms": 3}, "quick", "p98_ms.*there is no such key"),
        ({"p99_ms": -3}, "quick", "more than 0"),
        ({"p99_ms": "fast"}, "quick", "a number is expected|a number"),
        ({"p99_ms": 3}, "soon", "mode 'soon' is not known"),
    ],
)
def test_a_limit_that_is_none_is_refused(
    bert_bundle: Exported, gates: dict[str, object], mode: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        api.gate(bert_bundle.path, gates=gates, mode=mode)  # type: ignore[arg-type]
