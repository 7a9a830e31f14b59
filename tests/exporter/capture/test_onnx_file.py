"""`.onnx` files as sources: external data, damage, and bundles' own artifacts."""

from pathlib import Path

import onnx_ir as ir
import pytest

from headway.errors import SourceError
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe

from tests.support.onnx_files import torchscript_file
from tests.support.refusals import refused


def test_corrupt_onnx(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x09corrupt" * 50)
    error = refused(tmp_path / "model.onnx", tmp_path / "out")
    assert error.exit_code == 3
    assert "model.onnx" in str(error)


def test_external_data(tmp_path: Path) -> None:
    path = torchscript_file(tmp_path / "source", "bert", 17, "sdpa")
    ir.save(ir.load(path), path, external_data="weights.bin", size_threshold_bytes=0)
    assert export(Recipe(source=str(path)), tmp_path / "out").parity.ok
    (tmp_path / "source" / "weights.bin").unlink()
    with pytest.raises(SourceError, match=r"weights\.bin"):
        export(Recipe(source=str(path)), tmp_path / "out2")


def test_our_own_artifact_is_refused_as_a_source(bert_bundle: Exported, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="runtime-specific"):
        export(Recipe(source=str(bert_bundle.path / "model.onnx")), tmp_path / "out")
