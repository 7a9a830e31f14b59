"""Files of the TorchScript exporter: old opsets, attention in separate operators."""

from pathlib import Path

import pytest

from headway.exporter.export import export
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
