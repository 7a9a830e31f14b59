"""A curve: one bundle for each speed, a table and a plot; a speed that is refused has its reason."""

import json
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headway.errors import GateError, UsageError
from headway.exporter import api
from headway.exporter.cli.curve import build_curve, read_speeds
from headway.exporter.cli.tables import curve_table

from tests.support.command_line import Headway


@contextmanager
def silent(_: int):
    yield lambda *_, **__: None


def made(folder: Path, speedup: float) -> Any:
    folder.mkdir()
    stage = {"latency_ratio": [0.99 / speedup, 1.01 / speedup], "quality": 100 - speedup}
    content = {"metric": "agreement", "speedup": speedup, "source_quality": 100.0, "stages": [stage]}
    return SimpleNamespace(manifest=SimpleNamespace(compression=content), artifact_bytes=2_000_000)


def test_speeds_are_read_in_order() -> None:
    assert read_speeds("2,1.25,2") == [1.25, 2.0]
    for wrong in ("", "fast", "1", "2,inf", "nan", "2,,3"):
        with pytest.raises(UsageError, match="speeds above 1 with commas"):
            read_speeds(wrong)


def test_a_row_for_each_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(_: None, out: Path, *, recipe: float, **options: Any) -> Any:
        assert options["work_dir"] == tmp_path / "work" and options["allow_pickle"] is False
        if recipe > 2:
            raise GateError("too much was lost")
        return made(out, recipe)

    monkeypatch.setattr(api, "export", export)
    recipes: Any = [(s, SimpleNamespace(passes=[], __gt__=None)) for s in (1.5, 2.0, 3.0)]
    monkeypatch.setattr(api, "export", lambda a, out, *, recipe, **o: export(a, out, recipe=float(out.name[:-1]), **o))
    options: Any = {"allow_pickle": False, "work": tmp_path / "work", "progress": silent}
    curve = build_curve(recipes, tmp_path / "out", force=False, **options)
    assert [r.bundle for r in curve.rows] == ["1.5x", "2x", None] and curve.rows[2].refusal == "too much was lost"
    assert curve.rows[1].drop == 2.0 and curve.rows[1].mb == 2.0
    assert curve.rows[1].interval == pytest.approx((2 / 1.01, 2 / 0.99))
    written = json.loads((tmp_path / "out" / "curve.json").read_text())
    assert [r["asked"] for r in written["rows"]] == [1.5, 2.0, 3.0] and (
        tmp_path / "out" / "curve.png"
    ).stat().st_size > 1000
    assert curve_table(curve).row_count == 3
    with pytest.raises(UsageError, match=r"1.5x exists; pass --force"):
        build_curve(recipes, tmp_path / "out", force=False, **options)
    with pytest.raises(GateError, match="no speed of the curve passed its gates: too much was lost"):
        build_curve(recipes[2:], tmp_path / "none", force=False, **options)


def test_a_curve_names_its_speeds_itself(headway: Headway, tmp_path: Path) -> None:
    done = headway("compress", "x", "--data", "y", "--out", tmp_path / "o", "--curve", "2", "--speedup", "2")
    assert done.returncode == 2 and "--curve names the speeds itself" in done.stderr
