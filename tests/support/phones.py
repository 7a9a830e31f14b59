"""Exports for phones, and text for them."""

from pathlib import Path

from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import make_recipe

from tests.support import models

LINES = [" ".join(models.WORDS[i : i + n]) for n in (2, 4, 7) for i in range(0, 18)]


def export_mobile(source: Path, out: Path, **values: object) -> Exported:
    return export(make_recipe("test", source=str(source), target="ort-mobile", **values), out)
