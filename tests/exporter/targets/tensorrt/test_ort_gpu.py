"""ONNX Runtime's providers for GPUs, on a machine without one."""

from pathlib import Path

import onnxruntime
import pytest

from headway.bundle import Bundle
from headway.errors import TargetError, UsageError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.targets.tensorrt import ort_gpu


@pytest.mark.parametrize("target", ["ort-cuda", "ort-tensorrt"])
def test_onnxruntime_on_a_gpu_is_made_here_and_refuses_to_fall_back(bert: Path, tmp_path: Path, target: str) -> None:
    done = export(Recipe(source=str(bert), target=target, dtype="fp16"), tmp_path / "out")
    assert done.parity.ok and done.manifest.artifact == "model.onnx"
    provider = done.manifest.session_options["providers"][0][0]
    assert done.manifest.session_options["providers"][-1] == ["CUDAExecutionProvider", {"use_tf32": "0"}]
    if provider in onnxruntime.get_available_providers():
        pytest.skip(f"{provider} is here")
    with pytest.raises(TargetError, match=rf"{provider}.*pip install onnxruntime-gpu"):
        Bundle.open(done.path)
    assert Bundle.open(done.path, providers=["CPUExecutionProvider"])(["the model"])


def test_a_runtime_for_gpus_without_a_gpu_checked_nothing_on_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(ort_gpu, "this_gpu", lambda: None)
    checked = ort_gpu.OrtGpuTarget("ort-cuda", "fp16").record(tmp_path)["checked"]
    assert "CUDAExecutionProvider was not executed" in checked
    monkeypatch.setattr(ort_gpu, "this_gpu", lambda: "sm_90")
    assert ort_gpu.OrtGpuTarget("ort-cuda", "fp16").record(tmp_path)["checked"] == "CUDAExecutionProvider"


def test_a_dtype_for_gpus_is_refused_on_the_cpu_target(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fp16 is for GPUs"):
        export(Recipe(source=str(bert), dtype="fp16"), tmp_path / "out")
