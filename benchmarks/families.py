"""Export a small random model of each family, and try the passes on it: which are exact, which are refused, and why.

    python -m benchmarks.families [FAMILY …]

With names, only those are measured again.
"""

import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from headway.errors import HeadwayError, HeadwayWarning
from headway.exporter.bench.measure import machine
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe

from .results import kept, save
from tests.support.family_passes import CELLS, tried
from tests.support.models import FAMILIES, make_model
from tests.support.other_families import OTHER_FAMILIES, make_other
from tests.support.variants import canonical


def measured(family: str, folder: Path) -> dict[str, Any]:
    """Return what became of a family: the difference from its source and each cell, or the refusal."""
    named = family in OTHER_FAMILIES
    source = make_other(folder / family, family) if named else make_model(folder / family, family, num_hidden_layers=3)
    row: dict[str, Any] = {"class": OTHER_FAMILIES[family][0] if named else f"{FAMILIES[family][0]}Model"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            done = export(Recipe(source=str(source)), folder / "out")
        except HeadwayError as error:
            return row | {"refused": str(error).replace(f"{source}: ", "").replace(f"{source}/", "")}
    told = [str(w.message) for w in caught if issubclass(w.category, HeadwayWarning)]
    row["largest_difference"] = max(o.max_abs for o in done.parity.outputs)
    row["notes"] = [sentence.removeprefix(f"{source}: ") for sentence in told]
    row["attentions"] = done.manifest.lowering["attention"]
    model = canonical(source)
    return row | {"cells": {cell: tried(model, cell) for cell in CELLS}}


def main(names: list[str]) -> None:
    """Measure families and keep the results."""
    console = Console()
    rows = kept("families").get("families", {})
    for family in names or [*FAMILIES, *OTHER_FAMILIES]:
        with TemporaryDirectory() as folder:
            try:
                rows[family] = measured(family, Path(folder))
            except Exception as error:  # a fault of ours, which the table must not hide
                rows[family] = {"class": family, "refused": f"FAULT {type(error).__name__}: {error}"}
        console.print(family, rows[family])
        ordered = {name: rows[name] for name in [*FAMILIES, *OTHER_FAMILIES] if name in rows}
        save("families", {"machine": machine(), "families": ordered})


if __name__ == "__main__":
    main(sys.argv[1:])
