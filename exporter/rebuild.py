"""Builds the engine of a bundle on the machine that will run it, from the graph and the plan that lie in it."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from .bundle import MANIFEST, Manifest, file_records
from .engine import ENGINE_FILE, PLAN_FILE
from .errors import HeadwayError, SourceError
from .targets.profiles import Profile
from .targets.tensorrt_build import BuildSettings, build_engine, this_gpu


def rebuild(bundle: Path) -> dict[str, Any]:
    """Builds as the plan says, TensorRT-RTX for this machine's GPU where there is one; returns the engine's record."""
    try:
        plan = json.loads((bundle / PLAN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{bundle / PLAN_FILE}: cannot be read ({error})") from error
    settings = BuildSettings(**{**plan["settings"], "gpus": tuple(plan["settings"]["gpus"])})
    gpu = this_gpu()
    if plan["library"] == "tensorrt_rtx" and gpu is not None:
        settings = replace(settings, gpus=(gpu,))
    if plan["library"] == "tensorrt":
        settings = replace(settings, cache=bundle / "timing.cache")
    profiles = [Profile(*(tuple(p[k]) for k in ("min", "opt", "max"))) for p in plan["profiles"]]
    record = build_engine(plan["library"], bundle / "model.onnx", profiles, settings, bundle / ENGINE_FILE)
    manifest = Manifest.read(bundle)
    manifest.files = file_records(bundle)
    manifest.engine = (manifest.engine or {}) | record
    (bundle / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return record


def main(bundle: Path) -> int:
    """What the script in a bundle calls; returns the exit code."""
    try:
        record = rebuild(bundle)
    except HeadwayError as error:
        print(f"headway: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{bundle / ENGINE_FILE}: {record['bytes'] / 1e6:.1f} MB in {record['seconds']:.1f} s")
    return 0
