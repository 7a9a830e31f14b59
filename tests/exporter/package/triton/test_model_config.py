"""Configurations: tensors without their batch axis, and only the parts that a model has."""

from pathlib import Path

import pytest

from headway.errors import UsageError
from headway.exporter.package.triton.model_config import TEXT, ModelConfig, Tensor
from headway.manifest import TensorInfo


def test_tensors_have_no_batch_axis() -> None:
    tensor = Tensor.of(TensorInfo("ids", "int64", ["batch", "sequence", 32]))
    assert (tensor.type, tensor.dims) == ("TYPE_INT64", "[ -1, 32 ]")
    with pytest.raises(UsageError, match="float16"):
        Tensor.of(TensorInfo("x", "float16", ["batch"]))


def test_a_configuration_has_what_its_model_has(tmp_path: Path) -> None:
    config = ModelConfig("small", "A test.", [TEXT], [TEXT], 4)
    config.write(tmp_path / "small", "bundle")
    text = (tmp_path / "small" / "config.pbtxt").read_text()
    assert 'backend: "python"' in text and "max_batch_size: 4" in text and (tmp_path / "small" / "1").is_dir()
    for part in (
        "dynamic_batching",
        "instance_group",
        "ensemble_scheduling",
        "model_warmup",
        "batch_input",
        "parameters",
    ):
        assert part not in text
    config.ends, config.batching, config.parameters = "ends", True, {"key": 7}
    config.write(tmp_path / "small", "bundle")
    text = (tmp_path / "small" / "config.pbtxt").read_text()
    assert "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO" in text and 'string_value: "7"' in text
