"""`headway verify`: a bundle is compared with its source again, and its files with their checksums."""

import json
import shutil
from pathlib import Path

import pytest

from headway.calibration.corpus import fingerprint_of, read_files
from headway.errors import SourceError, UsageError
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.verification import verify_bundle
from headway.manifest import Manifest, file_records

from tests.support import models


def test_a_bundle_without_a_file_is_not_verified(bert_bundle: Exported, tmp_path: Path) -> None:
    for name in ("config.json", "model.onnx", "tokenizer.json"):
        copy = Path(shutil.copytree(bert_bundle.path, tmp_path / name))
        (copy / name).unlink()
        with pytest.raises(SourceError, match=f"{name}: missing"):
            verify_bundle(copy, None, None)
    manifest = json.loads((copy / "headway.json").read_text(encoding="utf-8"))
    (copy / "headway.json").write_text(json.dumps(manifest | {"files": {}}), encoding="utf-8")
    with pytest.raises(SourceError, match="no checksums"):
        verify_bundle(copy, None, None)


def test_a_bundle_agrees_with_its_source_on_other_text(bert_bundle: Exported, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n".join(f"{word} of the rain" for word in models.WORDS))
    verdict = verify_bundle(bert_bundle.path, None, [tmp_path / "text.txt"])
    assert verdict.ok and verdict.parity is not None and verdict.metric is None
    assert verdict.to_json() == verdict.parity.to_json()


def test_another_source_is_refused_with_the_next_step(bert_bundle: Exported, tmp_path: Path) -> None:
    other = models.make_model(tmp_path / "other", seed=7, num_hidden_layers=4)
    with pytest.raises(SourceError, match=r"its fingerprint differs; give the right one as `against`"):
        verify_bundle(bert_bundle.path, str(other), None)


def test_a_bundle_runs_no_code_when_it_is_verified(
    bert_bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(bert_bundle.path, tmp_path / "copy"))
    (copy / "evil.py").write_text("open('ran', 'w').close()\ndef make():\n    raise SystemError\n", encoding="utf-8")
    recipe = (copy / "recipe.yaml").read_text(encoding="utf-8")
    lines = ["source: evil:make" if line.startswith("source:") else line for line in recipe.splitlines()]
    (copy / "recipe.yaml").write_text("\n".join(lines), encoding="utf-8")
    manifest = Manifest.read(copy)
    manifest.files = file_records(copy)
    (copy / "headway.json").write_text(manifest.to_json(), encoding="utf-8")
    monkeypatch.chdir(copy)
    with pytest.raises(UsageError, match=r"recipe\.yaml: its source evil:make is a factory, .*--allow-code"):
        verify_bundle(Path(), None, None)
    assert not (copy / "ran").exists()
    with pytest.raises(Exception, match=r".*"):  # whatever the factory raises: it was asked to run
        verify_bundle(Path(), None, None, allow_code=True)
    assert (copy / "ran").exists()


def test_the_recipe_is_the_bundle_s_own(bert_bundle: Exported, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bert_bundle.path, tmp_path / "copy"))
    content = json.loads((copy / "headway.json").read_text(encoding="utf-8"))
    del content["files"]["recipe.yaml"]
    (copy / "headway.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(SourceError, match=r"recipe\.yaml: not listed"):
        verify_bundle(copy, None, None)


def test_a_bundle_says_nothing_of_places_and_its_source_is_found_beside_it(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    source = Path(shutil.copytree(bert, folder / "source"))
    bundle = export(Recipe(source=str(source)), folder / "bundle").path
    for path in bundle.rglob("*"):
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes()
    assert verify_bundle(bundle, None, None).ok
    moved = bundle.rename(tmp_path / "bundle")
    with pytest.raises(UsageError, match=r"its source source is neither here nor beside the bundle: .* --against"):
        verify_bundle(moved, None, None)
    assert verify_bundle(moved, str(source), None).ok


def test_a_bundle_is_compared_on_all_files_of_its_recipe(bert: Path, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("\n".join(f"{name[0]} {word}" for word in models.WORDS))
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    done = export(Recipe(source=str(bert), data=paths), tmp_path / "bundle")
    assert done.manifest.source["text_fingerprint"] == fingerprint_of(read_files(paths, {}))
    assert "data:\n- a.txt\n- b.txt\n" in (done.path / "recipe.yaml").read_text(encoding="utf-8")
    assert verify_bundle(done.path, str(bert), None).ok
    (tmp_path / "b.txt").unlink()
    with pytest.raises(UsageError, match=r"its data b\.txt is neither here nor beside the bundle"):
        verify_bundle(done.path, str(bert), None)
    assert verify_bundle(done.path, str(bert), paths[:1]).ok
