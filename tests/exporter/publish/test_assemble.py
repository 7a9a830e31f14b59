"""What a bundle is assembled of."""

import json
import shutil
from pathlib import Path

import onnx_ir as ir
import pytest

from headway.errors import GateError
from headway.exporter.export import Exported
from headway.exporter.publish.assemble import check_size, finish, tensor_info
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.targets.registry import target_of
from headway.manifest import MANIFEST, Manifest, TensorInfo


def test_a_size_above_the_gate_says_by_how_much(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(bytes(1_500_000))
    assert check_size([tmp_path / "model"], Recipe(source="x", max_mb=1.5)) == 1_500_000
    with pytest.raises(GateError, match=r"1\.5 MB, 0\.5 MB over max_mb"):
        check_size([tmp_path / "model"], Recipe(source="x", max_mb=1.0))


def test_a_tensor_s_dimensions_keep_their_names() -> None:
    value = ir.Value(name="x", shape=ir.Shape(["batch", 3]), type=ir.TensorType(ir.DataType.INT64))
    assert tensor_info(value) == TensorInfo("x", "int64", ["batch", 3])


def test_small_files_of_the_source_come_along(bert: Path, bert_bundle: Exported, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    shutil.copyfile(bert / "config.json", source / "config.json")
    (source / "LICENSE").write_text("terms")
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text("{}")
    (source / "model.safetensors").write_bytes(b"weights")
    staging = tmp_path / "staging"
    staging.mkdir()
    recipe = Recipe(source=str(source))
    finish(staging, Manifest.read(bert_bundle.path), recipe, target_of(recipe), source)
    names = {p.relative_to(staging).as_posix() for p in staging.rglob("*") if p.is_file()}
    assert names == {"recipe.yaml", "config.json", "LICENSE", "1_Pooling/config.json", "README.md", MANIFEST}


def test_a_trimmed_vocabulary_is_in_the_config(bert: Path, bert_bundle: Exported, tmp_path: Path) -> None:
    recipe = Recipe(source=str(bert))
    finish(tmp_path, Manifest.read(bert_bundle.path), recipe, target_of(recipe), bert, kept_tokens=range(60))
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["vocab_size"] == 60


def test_the_manifest_names_libraries_and_runner(bert_bundle: Exported) -> None:
    manifest = bert_bundle.manifest
    assert manifest.runner == "onnxruntime" and manifest.target == "ort"
    assert {"onnxruntime", "torch", "headway"} <= manifest.libraries.keys()
    assert manifest.source["bytes"] > 0 and manifest.source["kind"] == "huggingface"
