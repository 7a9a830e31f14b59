"""A search over a small classifier with latencies that no machine decides."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from headway.exporter.compress.latency_table import LatencyTable
from headway.exporter.compress.stopwatch import Stopwatch, Timing, Workload
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.quantized import is_quantized
from headway.exporter.recipe.recipe import Recipe, make_recipe
from headway.exporter.search import crew
from headway.exporter.search.trial_record import Expected, Measured, TrialRecord
from headway.exporter.search.trial_settings import TrialSettings

SPACE: dict[str, Any] = {
    "speedups": [1, 1.5, 2],
    "rounds": ["one"],
    "cut": ["heads", "neurons"],
    "vocabulary": [1, 0.9],
    "trim": ["before"],
    "quantize": ["none", "int8"],
    "float_blocks": [0, 1],
    "recover_minutes": [0],
}
"""A space of plain work: what it makes depends on nothing but the settings."""

_LENGTH = 16


def table() -> LatencyTable:
    """Return a latency table of the small classifier: 10 ms, of which 1 is none of the blocks'."""
    heads, neurons = {0: 0.0, 4: 1.0}, {0: 0.0, 256: 2.0}
    return LatencyTable("ort", Workload(((1, _LENGTH),)), 10.0, 1.0, heads, neurons)


_WHOLE: dict[str, float] = {}
"""Operations of each source, by its digest."""


@contextmanager
def fixed_latencies() -> Iterator[pytest.MonkeyPatch]:
    """Give each model the latency that its operations take; int8 takes half of it."""

    begin = Stopwatch.__init__

    def begun(stopwatch: Stopwatch, source: ir.Model, *settings: Any) -> None:
        begin(stopwatch, source, *settings)
        _WHOLE[stopwatch.source_digest] = read_anatomy(source).flops_per_token(_LENGTH)

    def time(stopwatch: Stopwatch, model: ir.Model) -> tuple[Timing, int]:
        stopwatch.source_ms = stopwatch.source_ms or 10.0
        anatomy = read_anatomy(model)
        whole = _WHOLE[stopwatch.source_digest]
        ratio = 0.1 + 0.9 * anatomy.flops_per_token(_LENGTH) / whole * (0.5 if is_quantized(model) else 1.0)
        return Timing(10.0, 10.0 * ratio, ratio * 0.99, ratio * 1.01), anatomy.nbytes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stopwatch, "__init__", begun)
        patch.setattr(Stopwatch, "time", time)
        patch.setattr(crew, "measure_table", lambda *_, **__: table())
        yield patch


def search_recipe(source: Path, text: Path, **keys: Any) -> Recipe:
    """Return the recipe of a search of the small space."""
    return make_recipe("test", **{"source": str(source), "data": text, "max_drop": 100, "search": SPACE} | keys)


def record(number: int, lost: float, ms: float, mb: float, *, quality: float = 90.0, **keys: Any) -> TrialRecord:
    """Return the record of a bundle that lost so much by both kinds of texts."""
    settings = keys.pop("settings", TrialSettings(speedup=1.5, cut=("heads",)))
    measured = Measured(ms, ms * 0.99, ms * 1.01, mb, quality, quality - 1, quality + 1, lost, lost - 1, lost + 1)
    expected = keys.pop("expected", Expected(ms, mb, 0.1, lost))
    values: dict[str, Any] = {"state": "bundle", "model": str(number), "measured": measured} | keys
    return TrialRecord(number, settings.to_json(), expected=expected, **values)
