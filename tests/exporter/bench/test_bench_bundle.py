"""`headway bench` keeps its result in the bundle, whole, and refuses a rival that is another model."""

import shutil
from pathlib import Path

import pytest

import headway
from headway.errors import SourceError, UsageError
from headway.exporter.bench.bench_bundle import bench_bundle
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe

from tests.support import models


def test_result_is_kept_in_the_bundle(tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "source")
    out = export(Recipe(source=str(source)), tmp_path / "out").path
    again = Path(shutil.copytree(out, tmp_path / "again" / "out"))
    for _ in range(2):  # the second run replaces the first one's plot and card
        result = bench_bundle(out, [str(source), str(again)], threads=1, data=None, rounds=3, save=True)
        assert result.files and all(f.is_file() for f in result.files)
        bundle = headway.Bundle.open(out)
        bundle.check_files()
        assert bundle.manifest.bench is not None
        assert bundle.manifest.bench["contestants"] == ["out", result.contestants[1], "out #2"]
        assert str(tmp_path) not in (out / "headway.json").read_text(encoding="utf-8")
        card = (out / "README.md").read_text(encoding="utf-8")
        assert "mixed 32" in card and "plots/latency.png" in card
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "out", "source"]


def test_result_goes_elsewhere_when_asked(tmp_path: Path) -> None:
    out = export(Recipe(source=str(models.make_model(tmp_path / "source"))), tmp_path / "out").path
    before = (out / "headway.json").read_bytes()
    files = bench_bundle(out, [], threads=1, data=None, rounds=3, out=tmp_path / "bench").files
    assert {f.name for f in files} == {"bench.json", "latency.png"}
    assert (out / "headway.json").read_bytes() == before


def test_nothing_is_written_unless_asked(bert_bundle: Exported) -> None:
    out = bert_bundle.path
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in (out, *out.rglob("*"))}
    assert bench_bundle(out, [], threads=1, data=None, rounds=3).files == []
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in (out, *out.rglob("*"))} == before


def test_a_damaged_bundle_does_not_get_new_checksums(tmp_path: Path) -> None:
    out = export(Recipe(source=str(models.make_model(tmp_path / "source"))), tmp_path / "out").path
    weights = out / "model.onnx.data"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    before = (out / "headway.json").read_bytes()
    with pytest.raises(SourceError, match=r"model\.onnx\.data: changed"):
        bench_bundle(out, [], threads=1, data=None, rounds=3, save=True)
    assert (out / "headway.json").read_bytes() == before


def test_a_file_is_no_folder_for_results(tmp_path: Path) -> None:
    out = export(Recipe(source=str(models.make_model(tmp_path / "source"))), tmp_path / "out").path
    with pytest.raises(UsageError, match=r"headway\.json"):
        bench_bundle(out, [], threads=1, data=None, rounds=3, out=out / "headway.json")


def test_another_model_is_no_rival(tmp_path: Path) -> None:
    out = export(Recipe(source=str(models.make_model(tmp_path / "a"))), tmp_path / "out").path
    other = models.make_model(tmp_path / "b", seed=7)
    with pytest.raises(SourceError, match="not the same model"):
        bench_bundle(out, [str(other)], threads=1, data=None, rounds=3, out=None)
