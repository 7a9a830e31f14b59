"""An engine is built again from the plan in a bundle, by the modules that the bundle carries, without Headway."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headway.engine import rebuild as module
from headway.engine.build import BuildSettings
from headway.engine.profiles import Profile
from headway.engine.rebuild import main, rebuild
from headway.exporter.targets.tensorrt.plan import carry_builder
from headway.manifest import file_records

ALONE = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path = [{folder!r}, *sys.path]
import headway.engine.rebuild as rebuild
{more}
print(*sorted(str(m.__file__) for n, m in sys.modules.items() if n.split(".")[0] == "headway"), sep="\\n")
print("imported", *{{"numpy", "onnxruntime", "tokenizers", "torch", "onnx_ir", "triton"}} & set(sys.modules))
"""


@pytest.mark.parametrize("kernels", [False, True])
def test_the_carried_builder_imports_without_headway(kernels: bool, tmp_path: Path) -> None:
    carry_builder(tmp_path / "builder", kernels)
    more = ""
    if kernels:
        pytest.importorskip("triton", reason="Triton is published for Linux only")
        more = "import headway.kernels.tensorrt_plugin, headway.kernels.triton.build"
    script = ALONE.format(folder=str(tmp_path / "builder"), more=more)
    command = [sys.executable, "-I", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *files, imported = done.stdout.splitlines()
    assert files and all(Path(file).is_relative_to(tmp_path / "builder") for file in files)
    assert kernels or imported.split() == ["imported", "numpy"]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a plan bundle whose graph is a stand-in."""
    (tmp_path / "model.onnx").write_bytes(b"graph")
    (tmp_path / "model.onnx.data").write_bytes(b"weights")
    settings = {"gpus": ["sm_89"], "version_compatible": False, "hardware": "none", "stripped": False, "level": 3}
    profiles = [{"min": [1, 1], "opt": [8, 24], "max": [32, 64]}]
    plan = {"library": "tensorrt_rtx", "settings": settings | {"kernels": False}, "profiles": profiles}
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    manifest = {"files": file_records(tmp_path), "engine": {"plan": True}}
    (tmp_path / "headway.json").write_text(json.dumps(manifest), encoding="utf-8")
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return what the builder, a stand-in, was asked for; it writes an engine of four bytes."""
    asked: list[tuple[Any, ...]] = []

    def build(library: str, onnx: Path, profiles: list[Profile], settings: BuildSettings, out: Path) -> dict[str, Any]:
        asked.append((library, onnx, profiles, settings))
        out.write_bytes(b"vtrt")
        return {"library": library, "bytes": 4, "seconds": 1.0}

    monkeypatch.setattr(module, "build_engine", build)
    monkeypatch.setattr(module, "this_gpu", lambda: "sm_120")
    return asked


def test_rtx_builds_for_the_gpu_that_is_here(bundle: Path, calls: list[tuple[Any, ...]]) -> None:
    record = rebuild(bundle)
    ((library, onnx, profiles, settings),) = calls
    assert (library, onnx, profiles) == ("tensorrt_rtx", bundle / "model.onnx", [Profile((1, 1), (8, 24), (32, 64))])
    assert settings == BuildSettings(("sm_120",), level=3)
    manifest = json.loads((bundle / "headway.json").read_text())
    assert manifest["engine"] == {"plan": True} | record
    assert manifest["files"] == file_records(bundle) and "model.engine" in manifest["files"]


def test_without_a_gpu_rtx_builds_for_those_of_the_plan(
    bundle: Path, calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "this_gpu", lambda: None)
    rebuild(bundle)
    assert calls[0][3].gpus == ("sm_89",)


def test_tensorrt_keeps_its_timing_cache_in_the_bundle(bundle: Path, calls: list[tuple[Any, ...]]) -> None:
    plan = json.loads((bundle / "plan.json").read_text())
    (bundle / "plan.json").write_text(json.dumps(plan | {"library": "tensorrt"}), encoding="utf-8")
    rebuild(bundle)
    assert calls[0][3].cache == bundle / "timing.cache" and calls[0][3].gpus == ("sm_89",)


def test_the_script_prints_what_it_built_or_one_message(
    bundle: Path, calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(bundle) == 0
    assert capsys.readouterr().out == f"{bundle / 'model.engine'}: 0.0 MB in 1.0 s\n"
    (bundle / "model.onnx.data").write_bytes(b"WEIGHTS")
    assert main(bundle) == 3
    assert "model.onnx.data: changed" in capsys.readouterr().err
    shutil.copy(bundle / "model.onnx", bundle / "plan.json")
    assert main(bundle) == 3
    assert capsys.readouterr().err.startswith(f"headway: {bundle / 'plan.json'}: not valid JSON")
    assert len(calls) == 1
