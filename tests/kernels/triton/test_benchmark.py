"""The benchmark of the GPU kernels: its checks and a dry run in Triton's interpreter, and what it says without a GPU."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import triton_worker as worker

Run = Callable[..., Any]


def test_checks_of_the_gpu_benchmark(interpreted: Run) -> None:
    checks = interpreted(worker.benchmark_checks)
    assert len(checks) > 40
    assert [(name, error, bound) for name, error, bound in checks if error > bound] == []
    assert interpreted(worker.benchmark_checks_notice)


@pytest.mark.slow
def test_the_gpu_benchmark_goes_on_where_it_stopped(interpreted: Run, tmp_path: Path) -> None:
    """A dry run: its figures are of the interpreter and mean nothing."""
    got = interpreted(worker.benchmark_dry_run, str(tmp_path))
    assert got["timed"] == [1, 3]
    saved = json.loads(got["result"])
    assert [row["case"] for row in saved["results"]] == [
        "1x1x4x16 padding", "two, 1x16, 33% padding", "two, 1x16, 33% padding, bias",
    ]  # fmt: skip
    assert saved["checks"]["wrong"] == []
    for row in saved["results"]:
        assert [c for c in row["contestants"].values() if "error" in c] == []
        for name, contestant in list(row["contestants"].items())[1:]:
            low, high = contestant["times_headway"][1:]
            assert low <= contestant["times_headway"][0] <= high, name
    assert set(saved["results"][1]["contestants"]) == {
        "headway packed", "headway padded", "torch sdpa padded", "torch sdpa, padding seen", "torch sdpa nested",
    }  # fmt: skip
    assert re.search(r"attention: two, 1x16, 33% padding +headway packed +\d", got["printed"])
    assert got["printed"].count("sm_90 columns 16: SoftmaxConfig") == 1
    tiles = json.loads(got["tiles"])
    assert set(tiles["softmax"]) == {"sm_90 columns 16"}
    assert set(tiles["attention"]) == {"sm_90 head_dim 16 bytes 2 short", "sm_90 head_dim 16 bytes 2 short bias"}


def test_the_gpu_benchmark_refuses_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    from benchmarks.gpu import kernels

    assert kernels.main([]) == 4
    assert "torch finds no CUDA device" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_of_the_gpu_benchmark_refuses_without_a_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    command = Path(__file__).parents[3] / "benchmarks" / "gpu" / "kernels.py"
    done = subprocess.run([sys.executable, command], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 4
    assert "torch finds no CUDA device" in done.stderr


def test_the_gpu_benchmark_needs_torch_and_triton_alone(tmp_path: Path) -> None:
    """Loaded by path, with Headway not installed and its dependencies hidden. Other packages stay, wherever the checkout lies."""
    checkout = Path(__file__).parents[3]
    hidden = ["numpy", "onnx", "onnx_ir", "onnxruntime", "rich", "tokenizers", "transformers", "typer"]
    script = f"""
import importlib.util, sys
for name in {hidden}: sys.modules[name] = None
sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]
import os
here = os.path.realpath({str(checkout)!r})
own = (here, os.path.join(here, 'build', 'types'))
sys.path = [p for p in sys.path if p and os.path.realpath(p) not in own]
assert importlib.util.find_spec('headway') is None
import runpy
names = runpy.run_path({str(checkout / "benchmarks/gpu/kernels.py")!r})
configs, softmax, attention = names['kernel_modules']()
print(configs.__name__, softmax.masked_softmax_kernel.__name__, attention.attention_kernel.__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path
    )
    assert done.stdout.split() == ["headway.kernels.triton.configs", "masked_softmax_kernel", "attention_kernel"], (
        done.stderr
    )
