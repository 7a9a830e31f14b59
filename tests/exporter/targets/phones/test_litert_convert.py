"""The converter in its own environment."""

from pathlib import Path

import onnx_ir as ir
import pytest

from headway.errors import TargetError
from headway.exporter.targets.phones import litert

from tests.support.litert import needed


@needed
def test_a_converter_that_fails_says_why(one_layer: ir.Model, tmp_path: Path) -> None:
    strange = one_layer.clone()
    gelu = next(n for n in strange.graph if n.op_type == "Gelu")
    gelu.op_type = "Mish"
    with pytest.raises(TargetError, match=f"{gelu.name}.*Mish has no counterpart.*--target ort"):
        litert.build(strange, tmp_path, [8], pad_id=0)
    assert not list(tmp_path.iterdir())
