"""Gates in a recipe: only what is given, and only what is known."""

import pytest
from pydantic import ValidationError

from headway.errors import UsageError
from headway.exporter.recipe.limits import Gates
from headway.exporter.recipe.recipe import Recipe, make_recipe


def test_only_limits_that_are_set_are_given() -> None:
    assert Gates().given == {} and Gates(p99_ms=20, parity=True).given == {"p99_ms": 20, "parity": True}
    assert Gates(parity=False).given == {}


def test_a_recipe_writes_its_gates_and_nothing_where_it_has_none() -> None:
    assert "gates" not in Recipe(source="x").to_yaml()
    assert "gates:\n  p99_ms: 20.0\n" in Recipe(source="x", gates=Gates(p99_ms=20)).to_yaml()


def test_an_unknown_gate_is_refused() -> None:
    with pytest.raises(UsageError, match=r"gates\.p98_ms: there is no such key"):
        make_recipe("recipe.yaml", source="x", gates={"p98_ms": 3})


@pytest.mark.parametrize("name", sorted(set(Gates.model_fields) - {"parity", "max_quality_drop"}))
def test_a_limit_that_nothing_can_meet_or_miss_is_refused(name: str) -> None:
    assert Gates(**{name: 1e-3}).given == {name: 1e-3}
    for value in (0, -0.5):
        with pytest.raises(ValidationError, match="greater than 0"):
            Gates(**{name: value})


def test_no_drop_at_all_may_be_asked_for() -> None:
    assert Gates(max_quality_drop=0).given == {"max_quality_drop": 0}
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Gates(max_quality_drop=-0.5)
