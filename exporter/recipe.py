"""The recipe: one short YAML file that says what to make. Every bundle holds the resolved one that made it."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import UsageError


class Recipe(BaseModel):
    """Version 1. Unknown keys are refused. `tolerance` replaces the dtype's own; `max_mb` is a gate on the artifact's size."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    source: str
    task: str | None = None
    target: Literal["ort"] = "ort"
    data: Path | None = None
    tolerance: float | None = Field(default=None, gt=0)
    max_mb: float | None = Field(default=None, gt=0)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)


def read_recipe(path: Path) -> Recipe:
    """Reads a recipe. UsageError names the file and the key that is wrong."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid YAML ({error})") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a recipe is a mapping of keys; at least `source:` is needed")
    return make_recipe(str(path), **content)


def make_recipe(where: str, **values: object) -> Recipe:
    """A checked recipe; `where` is named in the error."""
    try:
        return Recipe(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
        raise UsageError(f"{where}: {problems}") from error
