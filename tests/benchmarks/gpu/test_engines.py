"""The script for a GPU machine, as far as it goes without one: what it measures, skips and says. Times here mean nothing."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headway.engine import build as tensorrt_build
from headway.engine import rebuild
from headway.errors import TargetError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe
from headway.runners import tensorrt as engine

from tests.support import models

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "gpu" / "engines.py"


@pytest.fixture(scope="module")
def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_engines", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = tmp_path_factory.mktemp("prepared")
    source = models.make_sentence_model(build / "source", vocab_size=20000, max_position_embeddings=128)
    export(Recipe(source=str(source), target="tensorrt", engine={"plan": True}), build / "fp32")
    return build


@pytest.fixture
def script(loaded: Any, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the script with a small model prepared, for float32 alone, and short cases."""
    module = loaded
    build = shutil.copytree(prepared, tmp_path / "build")
    monkeypatch.setattr(module, "BUILD", build)
    monkeypatch.setattr(module, "DTYPES", ("fp32",))
    monkeypatch.setattr(module, "CASES", ((1, 16), (2, None)))
    full = module.contestants
    monkeypatch.setattr(module, "contestants", lambda d: {k: v for k, v in full(d).items() if k != "torch.compile"})
    return module


def test_cases_are_measured_once_and_the_rest_in_the_next_slice(script: Any, tmp_path: Path) -> None:
    options = {"rounds": 3, "again": False}
    assert script.run("cpu", "No GPU", tmp_path, seconds=-1.0, **options) == script.UNFINISHED
    assert script.run("cpu", "No GPU", tmp_path, seconds=60.0, **options) == 0
    path = tmp_path / "gpu-engines-no-gpu.json"
    first = json.loads(path.read_text())
    assert list(first["cases"]) == ["1x16", "2xmixed"]
    assert set(first["cases"]["1x16"]["contestants"]) == {"PyTorch", "ONNX Runtime fp32"}
    assert "tensorrt>=10.9" in first["refused"]["tensorrt fp32"]
    assert script.run("cpu", "No GPU", tmp_path, seconds=60.0, **options) == 0
    assert json.loads(path.read_text()) == first
    assert "| ONNX Runtime fp32 |" in path.with_suffix(".md").read_text()
    shutil.rmtree(tmp_path / "build" / "fp32")
    assert script.code() != first["code"]


def test_an_engine_is_built_once_for_its_code_and_graph(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library, what builds and what runs are stand-ins."""
    with pytest.raises(TargetError, match=r"pip install 'tensorrt>=10\.9'"):
        script.engine_run("tensorrt", "fp32")
    bundle = script.BUILD / "tensorrt-rtx-fp32"
    assert not list(script.BUILD.glob("tensorrt*"))  # nothing is copied for a library that is not there
    built: list[str] = []

    def build(folder: Path) -> None:
        built.append(json.loads((folder / "plan.json").read_text())["library"])
        (folder / "model.engine").touch()

    def opened(path: Path, options: dict[str, Any]) -> Any:
        if not path.is_file():
            raise TargetError("not built yet")
        return SimpleNamespace(run=lambda feeds: {"sentence_embedding": feeds["input_ids"]})

    monkeypatch.setattr(tensorrt_build, "find_library", lambda name: None)
    monkeypatch.setattr(rebuild, "rebuild", build)
    monkeypatch.setattr(engine, "open_engine", opened)
    feeds = script.feeds_for(2, 8)
    for _ in range(2):
        assert script.engine_run("tensorrt-rtx", "fp32")(feeds) is feeds["input_ids"]
    assert built == ["tensorrt_rtx"]
    bundle.with_suffix(".code").unlink()  # as where the copy was cut short
    (bundle / "model.onnx.data").unlink()
    script.engine_run("tensorrt-rtx", "fp32")
    assert (bundle / "model.onnx.data").is_file()
    monkeypatch.setattr(script, "code", lambda: "other")
    script.engine_run("tensorrt-rtx", "fp32")
    assert len(built) == 3


def test_float32_is_float32_in_onnxruntime_too(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded, "ort_run", lambda dtype, provider: provider)
    opened = loaded.contestants("cuda")["ONNX Runtime fp32"]()
    assert opened == ("CUDAExecutionProvider", {"use_tf32": "0"})


def test_int8_that_buys_nothing_is_said(loaded: Any) -> None:
    rows = {"tensorrt fp16": {"ms": 1.0}, "tensorrt int8": {"ms": 1.1}, "ONNX Runtime int8": {"ms": 0.5}}
    assert loaded.slow_int8({"1x128": {"contestants": rows}}) == [
        "1x128: tensorrt int8 takes 1.10 ms, float16 1.00: int8 buys nothing here"
    ]
    rows["tensorrt int8"]["ms"] = 0.9
    assert loaded.slow_int8({"1x128": {"contestants": rows}}) == []


def test_without_a_gpu_it_says_so(loaded: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "run"])
    assert loaded.main() == 4 and "no GPU here" in capsys.readouterr().err


@pytest.mark.slow
def test_without_a_gpu_the_script_ends_with_its_code() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = subprocess.run([sys.executable, SCRIPT, "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 4 and "no GPU here" in done.stderr
