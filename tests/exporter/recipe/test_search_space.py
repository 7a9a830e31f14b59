"""The space of a search: what is out of bounds is refused by its key."""

import pytest

from headway.errors import UsageError
from headway.exporter.recipe.recipe import make_recipe, read_recipe


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"speedups": []}, "search.speedups: has 0 values; give at least 1"),
        ({"speedups": [0.5]}, "is 0.5; give at least 1"),
        ({"vocabulary": [0]}, "is 0; give more than 0"),
        ({"cut": ["layers"]}, "'layers' is not known; give 'heads', 'neurons', 'ranks' or 'blocks'"),
        ({"quantize": ["int8", "int8"]}, "quantize names a value twice"),
        ({"recover_minutes": [-1]}, "is -1; give at least 0"),
        ({"float_blocks": [1.5]}, "float_blocks"),
        ({"heads": [1]}, "there is no such key"),
    ],
)
def test_what_is_out_of_bounds_is_refused(space: dict, says: str) -> None:
    with pytest.raises(UsageError, match="search") as refused:
        make_recipe("test", source="x", search=space)
    assert says in str(refused.value)


def test_a_space_stands_in_recipes_where_it_was_given(tmp_path) -> None:
    assert "search" not in make_recipe("test", source="x").to_yaml()
    made = make_recipe("test", source="x", search={"speedups": [1, 2]})
    file = tmp_path / "recipe.yaml"
    file.write_text(made.to_yaml())
    assert read_recipe(file).search.speedups == [1.0, 2.0]
    assert "choose" not in make_recipe("test", source="x", passes=[{"kind": "float16"}]).to_yaml()
    chosen = make_recipe("test", source="x", passes=[{"kind": "float16"}], calibration={"choose": True})
    assert chosen.chooses and "choose: true" in chosen.to_yaml()
