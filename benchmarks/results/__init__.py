"""Where measurements are kept: one JSON file each, with the machine it was taken on."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def save(name: str, content: dict[str, Any]) -> Path:
    """Write `name.json` here and returns its path."""
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def kept(name: str) -> dict[str, Any]:
    """Return what `save` wrote under this name before; empty where nothing was."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
