"""Build the engine of a bundle on the machine that will run it, from the bundle's graph and plan.

A bundle carries this module and what it imports, so that it needs numpy and the library that builds, and no Headway.
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..checked import Mismatch, checked
from ..errors import HeadwayError, SourceError
from ..json_file import read_json
from ..manifest import MANIFEST, FileRecord, check_records, file_records
from .build import BuildSettings, build_engine, this_gpu
from .profiles import Profile
from .record import ENGINE_FILE, PLAN_FILE, PlanSettings, read_plan


def rebuild(bundle: Path) -> dict[str, Any]:
    """Build as the plan says and return the engine's record; TensorRT-RTX builds for this machine's GPU where there is one."""
    plan, manifest = read_plan(bundle / PLAN_FILE), read_json(bundle / MANIFEST)
    try:
        records = checked(dict[str, FileRecord], manifest.get("files"), "files")
    except Mismatch as error:
        raise SourceError(f"{bundle / MANIFEST}: {error}: copy the bundle again") from error
    check_records(bundle, {n: asdict(r) for n, r in records.items() if n.startswith("model.onnx")})
    named = {name: plan["settings"][name] for name in PlanSettings.__annotations__ if name in plan["settings"]}
    settings = BuildSettings(**{**named, "gpus": tuple(named["gpus"])})
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


def main(bundle: Path) -> int:
    """Build the engine for the script in a bundle; return the exit code."""
    try:
        record = rebuild(bundle)
    except HeadwayError as error:
        print(f"headway: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{bundle / ENGINE_FILE}: {record['bytes'] / 1e6:.1f} MB in {record['seconds']:.1f} s")
    return 0
