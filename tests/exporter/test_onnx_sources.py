"""`.onnx` files as they come from other exporters: old opsets, decomposed attention, external data."""

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from headway.errors import SourceError
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe

from tests.support.onnx_files import torchscript_file


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("opset", [14, 17, 20])
@pytest.mark.parametrize("family", ["bert", "roberta", "albert"])
def test_files_of_the_torchscript_exporter(family: str, opset: int, attention: str, tmp_path: Path) -> None:
    done = export(Recipe(source=str(torchscript_file(tmp_path / "source", family, opset, attention))), tmp_path / "out")
    blocks = len(done.manifest.anatomy["blocks"])
    assert done.manifest.lowering == {"attention": blocks, "gelu": blocks}
    assert max(o.max_abs for o in done.parity.outputs) < 1e-4
    weights = (done.path / "model.onnx.data").stat().st_size
    assert weights <= 1.1 * (tmp_path / "source" / "model.safetensors").stat().st_size


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


def test_fixed_shapes_are_refused(tmp_path: Path) -> None:
    path = torchscript_file(tmp_path / "source", "bert", 17, "sdpa")
    model = onnx.load(path)
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            dim.dim_value = 9
    onnx.save(model, path)
    with pytest.raises(SourceError, match=r"dynamic|fixed"):
        export(Recipe(source=str(path)), tmp_path / "out")
