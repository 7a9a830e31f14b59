"""Nothing is lost when a gate fails: another run with another budget goes on from what was learned."""

import shutil
from pathlib import Path

import pytest

from headway.errors import GateError
from headway.exporter.compress import budget, fit_steps, memory
from headway.exporter.export import export
from headway.exporter.recipe.recipe import make_recipe

from tests.support.compressing import classifier, own_cache, text  # noqa: F401


@pytest.fixture(scope="module")
def learned(classifier: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:  # noqa: F811
    """Run a compression whose quality is refused at the end; return the keys of its recipe, and where what it learned stays."""
    folder = tmp_path_factory.mktemp("refused")
    keys: dict = {
        "source": str(classifier),
        "data": text,
        "passes": [{"kind": "fit", "flops": 0.6}, {"kind": "repair"}, {"kind": "recover", "minutes": 1, "epochs": 1}],
    }

    def too_much(*_: object) -> None:
        raise GateError("7.00 points of accuracy were lost")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "check_drop", too_much)
        with pytest.raises(
            GateError, match=r"7.00 points .* Built on the way: .* times as fast loses .* goes on from there"
        ):
            export(make_recipe("test", **keys, max_drop=1.0), folder / "bundle", work=folder / "work")
    assert not (folder / "bundle").exists()
    return keys, folder / "work"


@pytest.fixture
def refused(learned: tuple[dict, Path], tmp_path: Path) -> dict:
    """Return the keys of the recipe that was refused. What was learned for it lies in `work`."""
    keys, work = learned
    shutil.copytree(work, tmp_path / "work")
    return keys


@pytest.mark.slow
def test_another_gate_takes_what_was_learned(refused: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("collect", "repair"):
        monkeypatch.setattr(memory, name, lambda *_, **__: pytest.fail("it was learned again"))
    monkeypatch.setattr("headway.exporter.compress.weight_steps.recover", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(fit_steps, "fit", lambda *_, **__: pytest.fail("searched again"))
    made = export(make_recipe("test", **refused, max_drop=100.0), tmp_path / "bundle", work=tmp_path / "work")
    curve = made.manifest.compression["curve"]
    assert [stage["name"] for stage in made.manifest.compression["stages"]] == ["source", "fit", "repair", "recover"]
    assert curve and all(point["speedup"] > 1 for point in curve)
    # Elsewhere nothing is known, and the same comes out.
    monkeypatch.undo()
    again = export(make_recipe("test", **refused, max_drop=100.0), tmp_path / "again", work=tmp_path / "other")
    assert (again.path / "model.onnx").read_bytes() == (made.path / "model.onnx").read_bytes()


def test_int8_on_top_follows_the_same_plan(refused: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations are counted alike for float32 and int8: what was repaired is quantized."""
    monkeypatch.setattr(memory, "collect", lambda *_, **__: pytest.fail("it was learned again"))
    passes = [*refused["passes"], {"kind": "quantize"}]
    made = export(
        make_recipe("test", **refused | {"passes": passes}, max_drop=100.0), tmp_path / "bundle", work=tmp_path / "work"
    )
    assert made.manifest.compression["stages"][-1]["name"] == "quantize"
