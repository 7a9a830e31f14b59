"""Where the code lives that the documentation is generated from. A move changes one line here."""

from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
TESTS = ROOT / "tests"

COMMAND_LINE = "headway.exporter.cli.app:app"
RECIPE = "headway.exporter.recipe.recipe:Recipe"
TARGETS = "headway.exporter.recipe.targets:TARGETS"
FORMS = "headway.exporter.source.checkpoints.read:all_forms"
MANIFEST = "headway.manifest:Manifest"
AGREEMENT = "headway.manifest_parts:AgreementRecord"
ERRORS = "headway.errors:HeadwayError"


def load(place: str) -> Any:
    """Return the object that `module:name` names."""
    module, name = place.split(":")
    return getattr(import_module(module), name)
