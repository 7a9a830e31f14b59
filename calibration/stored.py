"""What calibration found, on disk: `stem.safetensors` holds arrays by key, `stem.json` what they are of. Refused where it is another's."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..exporter.errors import SourceError


def write(stem: Path, arrays: Mapping[str, np.ndarray], described: Mapping[str, Any]) -> None:
    """Writes both files. `described` is JSON and has a `schema_version` and the `source`'s fingerprint."""
    from safetensors.numpy import save_file

    save_file({k: np.ascontiguousarray(a) for k, a in arrays.items()}, stem.with_suffix(".safetensors"))
    stem.with_suffix(".json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def read(stem: Path, *, version: int, source: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What was described, but for its version, and the arrays; SourceError where unreadable, another version's or model's."""
    from safetensors.numpy import load_file

    try:
        described = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        arrays = load_file(stem.with_suffix(".safetensors"))
    except Exception as error:  # safetensors raises its own kinds
        raise SourceError(f"{stem}: what calibration found cannot be read ({error}); calibrate again") from error
    if not isinstance(described, dict) or described.pop("schema_version", None) != version:
        raise SourceError(f"{stem}: written by another version; calibrate again")
    if described.get("source") != source:
        raise SourceError(f"{stem}: found on another model (its fingerprint differs); calibrate again")
    return described, arrays
