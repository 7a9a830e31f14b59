"""Files of the TorchScript exporter: old opsets, attention in separate operators."""

from pathlib import Path

import onnx_ir as ir
import pytest
import torch

from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe

from tests.support.onnx_files import dynamo_file, torchscript_file


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


def test_a_file_of_the_exporter_that_is_the_default_today(tmp_path: Path) -> None:
    """Attention behind `IsNaN` and `Where`, keys transposed between two Reshapes, weights under numbers, and external data."""
    path = dynamo_file(tmp_path / "model[v1]")
    kinds = [n.op_type for n in ir.load(path).graph]
    assert {"IsNaN", "Softmax"} <= set(kinds) and "Attention" not in kinds
    assert (tmp_path / "model[v1]" / "model.onnx.data").is_file()
    done = export(Recipe(source=str(path)), tmp_path / "out")
    assert done.manifest.lowering == {"attention": 1, "gelu": 1}
    assert max(o.max_abs for o in done.parity.outputs) < 1e-5


def test_a_file_that_takes_int32(tmp_path: Path) -> None:
    path = torchscript_file(tmp_path / "source", "bert", 17, "sdpa", torch.int32)
    done = export(Recipe(source=str(path)), tmp_path / "out")
    assert {i.dtype for i in done.manifest.inputs} == {"int64"}
    assert max(o.max_abs for o in done.parity.outputs) < 1e-5
