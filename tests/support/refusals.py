"""Expect that a source is refused."""

import json
from pathlib import Path

import pytest

from headway.errors import HeadwayError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe


def refused(spec: str | Path, out: Path, **options: object) -> HeadwayError:
    """Export and expects a refusal that leaves nothing behind."""
    pickle = bool(options.pop("allow_pickle", False))
    with pytest.raises(HeadwayError) as caught:
        export(Recipe(source=str(spec), **options), out, allow_pickle=pickle)  # type: ignore[arg-type]
    assert not out.exists()
    assert not list(out.parent.glob(f".{out.name}.*"))
    return caught.value


def edit_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
