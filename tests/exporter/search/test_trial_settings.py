"""What a trial does: settings are drawn, said in words, and stand for passes."""

from collections.abc import Sequence
from typing import Any

import pytest

from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.recipe.search_space import SearchSpace
from headway.exporter.search.trial_settings import TrialSettings, draw, first_picks, key_of_settings, passes_of

SETTINGS = TrialSettings(2.0, ("heads", "ranks"), "several", 0.99, "after", "int8", "static", 1, 3.0)


def test_choices_without_effect_are_not_asked_for() -> None:
    asked = []

    def pick(name: str, values: Sequence[Any]) -> Any:
        asked.append(name)
        return values[0]

    assert draw(SearchSpace(), pick) == TrialSettings(coverage=0.99)
    assert asked == ["speedup", "vocabulary", "quantize"]
    asked.clear()
    settings = draw(SearchSpace(speedups=[2.0], quantize=["int8"]), pick)
    assert settings.cut == ("heads", "neurons", "ranks", "blocks") and settings.rounds == "one"
    assert {"cut heads", "rounds", "recover_minutes", "trim", "activations", "float_blocks"} <= set(asked)


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        (SETTINGS, ["fit", "trim_vocabulary", "repair", "recover", "quantize"]),
        (TrialSettings(2.0, ("heads",), coverage=0.9), ["trim_vocabulary", "fit", "repair"]),
        (TrialSettings(coverage=0.9, trim="after", quantize="float16"), ["trim_vocabulary", "float16"]),
        (TrialSettings(quantize="int4"), ["quantize"]),
        (TrialSettings(), []),
    ],
)
def test_passes_stand_in_an_order_that_recipes_take(settings: TrialSettings, kinds: list[str]) -> None:
    recipe = make_recipe("test", source="x", passes=passes_of(settings))
    assert [spec.kind for spec in recipe.passes] == kinds
    assert settings.changes == bool(kinds)


def test_settings_come_back_from_json_and_say_what_they_are() -> None:
    assert TrialSettings.from_json(SETTINGS.to_json()) == SETTINGS
    assert key_of_settings(SETTINGS) != key_of_settings(TrialSettings())
    words = (
        "cut to 2 × (heads, ranks; several rounds); vocabulary of 99 %, trimmed after the cut; 3 minutes of recovery; "
    )
    assert str(SETTINGS) == words + "int8 static, 1 block float"
    assert str(TrialSettings()) == "the source as it is" and SETTINGS.scheme == "int8 static"


def test_a_search_begins_with_the_curves_of_single_methods() -> None:
    picks = first_picks(SearchSpace(speedups=[3.0, 1.0, 2.0], quantize=["none", "float16", "int8"]))
    assert [(p["speedup"], p["quantize"]) for p in picks] == [(1, "float16"), (1, "int8"), (2, "int8"), (3, "int8")]
    assert [p["speedup"] for p in first_picks(SearchSpace(speedups=[2.0, 1.5]))] == [1.5, 2.0]
