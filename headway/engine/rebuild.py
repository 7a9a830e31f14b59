"""Build the engine of a bundle on the machine that will run it, from the bundle's graph and plan.

A bundle carries this module and what it imports, so that it needs numpy and the library that builds, and no Headway.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import HeadwayError, SourceError
from ..manifest import MANIFEST, check_records, file_records
from .build import BuildSettings, build_engine, this_gpu
from .profiles import Profile
from .record import ENGINE_FILE, PLAN_FILE


def rebuild(bundle: Path) -> dict[str, Any]:
    """Build as the plan says and return the engine's record; TensorRT-RTX builds for this machine's GPU where there is one."""
    plan, manifest = (_read(bundle / name) for name in (PLAN_FILE, MANIFEST))
    check_records(bundle, {n: r for n, r in manifest["files"].items() if n.startswith("model.onnx")})
    settings = BuildSettings(**{**plan["settings"], "gpus": tuple(plan["settings"]["gpus"])})
    gpu = this_gpu()
    if plan["library"] == "tensorrt_rtx" and gpu is not None:
        settings = replace(settings, gpus=(gpu,))
    if plan["library"] == "tensorrt":
        settings = replace(settings, cache=bundle / "timing.cache")
    profiles = [Profile(*(tuple(p[k]) for k in ("min", "opt", "max"))) for p in plan["profiles"]]
    record = build_engine(plan["library"], bundle / "model.onnx", profiles, settings, bundle / ENGINE_FILE)
    manifest["files"] = file_records(bundle)
    manifest["engine"] = (manifest.get("engine") or {}) | record
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (bundle / MANIFEST).write_text(text, encoding="utf-8")
    return record


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from error


def main(bundle: Path) -> int:
    """Build the engine for the script in a bundle; return the exit code."""
    try:
        record = rebuild(bundle)
    except HeadwayError as error:
        print(f"headway: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{bundle / ENGINE_FILE}: {record['bytes'] / 1e6:.1f} MB in {record['seconds']:.1f} s")
    return 0
