"""Name the files of an engine and read the record of how it was built."""

import json
from pathlib import Path
from typing import Any

ENGINE_FILE = "model.engine"
PLAN_FILE = "plan.json"
RECORD_SUFFIX = ".json"


def read_record(engine: Path) -> dict[str, Any] | None:
    """Return what was recorded when the engine was built (library, version, GPUs, driver, profiles, bytes), or None."""
    path = engine.with_suffix(RECORD_SUFFIX)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
