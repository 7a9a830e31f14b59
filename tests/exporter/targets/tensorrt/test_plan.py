"""A plan: what a bundle holds to have its engine built elsewhere."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from headway.bundle import Bundle
from headway.engine import build as tensorrt_build
from headway.engine.build import BuildSettings
from headway.errors import TargetError
from headway.exporter.check.lint import lint as lint_bundle
from headway.exporter.export import Exported
from headway.exporter.targets.tensorrt.plan import trtexec
from headway.manifest import Manifest

TRTEXEC = {
    "onnx", "saveEngine", "stronglyTyped", "noTF32", "skipInference", "profile", "minShapes", "optShapes", "maxShapes",
    "timingCacheFile", "versionCompatible", "hardwareCompatibilityLevel", "stripWeights", "builderOptimizationLevel",
}  # fmt: skip
"""Options that `trtexec --help` of TensorRT 10.16 and 11.1 both list."""


def test_plan_command_is_one_that_trtexec_takes(plan_bundle: Exported) -> None:
    script = plan_bundle.path / "build.sh"
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
    command = shlex.split(script.read_text().split("&& exec ")[1])
    assert command[0] == "trtexec"
    options = [re.fullmatch(r"--(\w+)(?:=(.+))?", word) for word in command[1:]]
    assert all(o is not None and o[1] in TRTEXEC for o in options), command
    shapes = [o[2] for o in options if o is not None and o[1].endswith("Shapes")]
    assert all(re.fullmatch(r"\w+:\d+x\d+(,\w+:\d+x\d+)*", str(s)) for s in shapes)
    profiles = [int(o[2]) for o in options if o is not None and o[1] == "profile"]
    assert profiles == list(range(len(shapes) // 3)) and len(profiles) > 1


def test_plan_command_lets_zeros_be_skipped_where_there_are_some() -> None:
    """As `trtexec --help` of TensorRT 10 names it."""
    commands = [trtexec(["input_ids"], [], BuildSettings(sparse=sparse)) for sparse in (True, False)]
    assert [("--sparsity=enable" in command) for command in commands] == [True, False]


def test_plan_command_runs_what_is_called_trtexec(plan_bundle: Exported, tmp_path: Path) -> None:
    """The directory's name has spaces, quotes and a semicolon."""
    (tmp_path / "trtexec").write_text('#!/bin/sh\npwd\nfor a in "$@"; do echo "$a"; done\n')
    (tmp_path / "trtexec").chmod(0o755)
    done = subprocess.run(
        ["sh", plan_bundle.path / "build.sh"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    first, *words = done.stdout.splitlines()
    assert Path(first) == plan_bundle.path and "--onnx=model.onnx" in words


def test_plan_script_runs_up_to_the_missing_library(plan_bundle: Exported) -> None:
    if tensorrt_build.missing("tensorrt") is None:
        pytest.skip("TensorRT is here")
    done = subprocess.run(
        [sys.executable, plan_bundle.path / "build_engine.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "pip install 'tensorrt>=10.9'" in done.stderr


def test_plan_script_builds_from_no_damaged_graph(plan_bundle: Exported, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(plan_bundle.path, tmp_path / "copy"))
    weights = bytearray((copy / "model.onnx.data").read_bytes())
    weights[-1] ^= 1
    (copy / "model.onnx.data").write_bytes(weights)
    done = subprocess.run([sys.executable, copy / "build_engine.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, "model.onnx.data: changed" in done.stderr) == (3, True), done.stderr


def test_plan_bundle_says_what_it_is_and_opens_as_onnx(plan_bundle: Exported) -> None:
    with pytest.raises(TargetError, match=r"not built yet.*build_engine\.py"):
        Bundle.open(plan_bundle.path)
    manifest = Manifest.read(plan_bundle.path)
    assert manifest.engine is not None and "not executed" in manifest.engine["checked"]
    assert manifest.parity["dtype"] == "float16"
    opened = Bundle.open(plan_bundle.path, providers=["CPUExecutionProvider"])
    assert opened(["the model", "a"])["last_hidden_state"].shape[0] == 2
    onnx.checker.check_model(str(plan_bundle.path / "model.onnx"), full_check=True)
    assert lint_bundle(plan_bundle.path, "tensorrt") == []
