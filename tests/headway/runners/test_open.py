"""The manifest names the runner; older manifests, which name none, open as they did."""

import json
import shutil
from pathlib import Path

import pytest

from headway.bundle import Bundle
from headway.errors import TargetError
from headway.exporter.export import Exported
from headway.manifest import MANIFEST, Manifest
from headway.runners.open import open_artifact, opened_files
from headway.runners.ort import OrtRunner


@pytest.mark.parametrize(
    "artifact, runner",
    [
        ("model.onnx", "onnxruntime"),
        ("model.ort", "onnxruntime"),
        ("onnx/model_quantized.onnx", "onnxruntime"),
        ("model.engine", "tensorrt"),
        ("model.pte", "executorch"),
        ("model.tflite", "litert"),
        ("model.mlpackage", "coreml"),
    ],
)
def test_a_manifest_without_a_runner_gets_the_one_of_its_artifact(
    artifact: str, runner: str, bert_bundle: Exported, tmp_path: Path
) -> None:
    content = json.loads((bert_bundle.path / MANIFEST).read_text(encoding="utf-8"))
    del content["runner"]
    (tmp_path / MANIFEST).write_text(json.dumps(content | {"artifact": artifact}), encoding="utf-8")
    assert Manifest.read(tmp_path).runner == runner


def test_a_bundle_from_before_opens(bert_bundle: Exported, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bert_bundle.path, copy)
    content = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
    assert content.pop("runner") == "onnxruntime"
    (copy / MANIFEST).write_text(json.dumps(content), encoding="utf-8")
    assert isinstance(Bundle.open(copy).runner, OrtRunner)


def test_an_unknown_runner_is_named(bert_bundle: Exported, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bert_bundle.path, copy)
    content = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
    (copy / MANIFEST).write_text(json.dumps(content | {"runner": "abacus"}), encoding="utf-8")
    with pytest.raises(TargetError, match=r"model\.onnx: made for the runner 'abacus'.*install a newer"):
        Bundle.open(copy)
    assert isinstance(Bundle.open(copy, providers=["CPUExecutionProvider"]).runner, OrtRunner)


def test_core_ml_packages_are_refused() -> None:
    with pytest.raises(TargetError, match="Apple's systems alone"):
        open_artifact("coreml", Path("model.mlpackage"), {}, None, None)


def test_all_that_is_opened_is_named(tmp_path: Path) -> None:
    """An engine that was not built yet is not opened; a package is a directory, whose files and links all count."""
    assert opened_files("tensorrt", tmp_path, "model.engine", providers=False) == ["plan.json"]
    package = tmp_path / "model.mlpackage"
    (package / "Data").mkdir(parents=True)
    for name in ("Manifest.json", "Data/weight.bin"):
        (package / name).touch()
    (package / "linked").symlink_to(tmp_path.parent, target_is_directory=True)
    names = ["Data/weight.bin", "Manifest.json", "linked"]
    assert opened_files("coreml", tmp_path, "model.mlpackage", providers=False) == [
        f"model.mlpackage/{n}" for n in names
    ]
    assert opened_files("coreml", tmp_path, "other.mlpackage", providers=False) == ["other.mlpackage"]
    assert opened_files("litert", tmp_path, "model.tflite", providers=False) == ["model.tflite", "model.tflite.json"]
