"""The benchmark of methods' interactions: combinations, their recipes, what is beyond the sum, and the page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway.exporter.compress.figures import mean
from headway.exporter.recipe.recipe import make_recipe

from benchmarks import interactions
from benchmarks.compression_tasks import Figure
from docs.generate import places
from docs.generate.benchmarks import interactions as page
from docs.generate.benchmarks import results


def test_all_pairs_and_triples_are_measured_and_distillation_alone_is_not() -> None:
    everything = interactions.combinations(list(interactions.METHODS), 3)
    assert [sum(len(c) == size for c in everything) for size in (1, 2, 3)] == [5, 15, 20]
    assert interactions.combinations(["int8", "heads"], 3) == [("heads",), ("int8",), ("heads", "int8")]


@pytest.mark.parametrize("methods", interactions.combinations(list(interactions.METHODS), 3), ids="+".join)
def test_every_combination_is_a_recipe(methods: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a text\n")
    recipe = make_recipe(
        "test", source="model", data=tmp_path / "text.txt", passes=interactions.passes_of(methods, 5.0)
    )
    assert len(recipe.passes) == len(methods)


class Simulated(interactions.Bench):
    """A bench whose models answer as they are told: 1 for a right answer, 0 for a wrong one."""

    def __init__(self, work: Path, answers: dict[tuple[str, ...], list[float]], source: list[float]):
        self.work, self.figure = work, self._figure([np.array(x) for x in source])
        for methods, values in answers.items():
            np.savez(self._stored(methods), *[np.array(x) for x in values])

    def _figure(self, answers: Any) -> Figure:
        return Figure(mean(np.array([float(a) for a in answers])), len(answers))


def test_what_is_beyond_the_sum(tmp_path: Path) -> None:
    right = [1.0] * 200
    answers = {
        ("heads",): [0.0] * 10 + right[10:],
        ("int8",): [0.0] * 4 + right[4:],
        ("heads", "int8"): [0.0] * 20 + right[20:],
        ("heads", "distillation"): [0.0] * 6 + right[6:],
    }
    bench = Simulated(tmp_path, answers, right)
    rows = {methods: {"quality": 0.0, "speedup": 2.0, "saving": 3.0} for methods in answers}
    found = bench.beyond(("heads", "int8"), rows)
    assert found["beyond_lost"] == pytest.approx(10 - 5 - 2)
    low, high = found["beyond_lost_interval"]
    assert low < 3 < high and found["beyond_speed"] == 0.5 and found["beyond_saving"] == pytest.approx(1 / 3)
    assert bench.beyond(("heads", "distillation"), rows)["beyond_lost"] == pytest.approx(-2)
    assert bench.beyond(("heads",), rows) == {} == bench.beyond(("heads", "neurons"), rows)


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    bench = Simulated(tmp_path, {("heads",): [1.0]}, [1.0])
    rows = [
        {"methods": ["heads"], "quality": 1.0},
        {"methods": ["int8"], "refused": "why"},
        {"methods": ["neurons"], "quality": 1.0},
    ]
    wanted = [("heads",), ("int8",), ("neurons",), ("heads", "int8")]
    assert list(interactions.open_rows({"rows": rows}, wanted, bench)) == [("neurons",), ("heads", "int8")]


def result() -> dict[str, Any]:
    one = {"speedup": 1.5, "saving": 2.0, "quality": 80.0, "lost": 1.0, "lost_interval": [0.5, 1.5], "undone": []}
    both = one | {"beyond_lost": -0.5, "beyond_lost_interval": [-1.0, 0.1], "beyond_speed": 0.9, "beyond_saving": 1.0}
    return {
        "title": "A model",
        "metric": "accuracy, %",
        "settings": {"texts": 640, "minutes": 5.0},
        "workload": "1×16; 1 thread(s)",
        "source": {"quality": 81.0, "mb": 90.0},
        "rows": [
            one | {"methods": ["heads"], "undone": ["split"]},
            both | {"methods": ["heads", "int8"]},
            {"methods": ["vocabulary", "int8"], "refused": "too few texts"},
        ],
    }


def test_the_page_has_what_was_measured_or_says_that_nothing_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(places, "RESULTS", tmp_path)
    results.read.cache_clear()
    assert "Not measured" in page.table("simulated") and "python -m benchmarks.interactions simulated" in page.table(
        "simulated"
    )
    (tmp_path / "interactions-simulated.json").write_text(json.dumps(result()))
    text = page.table("simulated")
    assert "| heads (split undone) | 1.50× | 2.00× | 1.00 (0.50 to 1.50) |" in text
    assert "| heads + int8 | 1.50× | 2.00× | 1.00 (0.50 to 1.50) | -0.50 (-1.00 to +0.10) | 0.90 |" in text
    assert "| vocabulary + int8 | refused |" in text and "`benchmarks/results/interactions-simulated.json`" in text
    interactions.plot(result(), tmp_path / "interactions-simulated.png")
    assert "plots/interactions-simulated.png" in page.table("simulated")
    results.read.cache_clear()
