"""Recipes: read, checked, written again."""

from pathlib import Path

import pytest
import yaml

from headway.errors import UsageError
from headway.exporter.recipe.passes import PASSES
from headway.exporter.recipe.recipe import Recipe, make_recipe, read_recipe


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"engine": {"plan": True}}, "not for ort"),
        ({"engine": {"gpus": ["sm_89"]}, "target": "ort-cuda"}, "not for ort-cuda"),
        ({"column": "body"}, "no data is given"),
    ],
)
def test_what_would_be_ignored_is_refused(values: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make_recipe("recipe.yaml", source="x", **values)


def test_every_key_has_a_description() -> None:
    schema = Recipe.model_json_schema()
    parts = {"Recipe": schema, **schema["$defs"]}
    assert len(parts) > len(PASSES)
    bare = [
        f"{name}.{key}"
        for name, part in parts.items()
        for key, p in part["properties"].items()
        if not p.get("description")
    ]
    assert not bare
    assert all(part["description"] for part in parts.values())


def test_a_recipe_is_read_as_it_was_written(tmp_path: Path) -> None:
    passes = [{"kind": "remove_heads", "keep": {0: [1], 2: 3}}, {"kind": "repair"}, {"kind": "quantize", "keep": ["a"]}]
    recipe = make_recipe("test", source="x", data="lines.txt", passes=passes, work={"shapes": [[8, 128]], "threads": 2})
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    again = read_recipe(tmp_path / "recipe.yaml")
    assert again == recipe and again.to_yaml() == recipe.to_yaml()
    plain = make_recipe("test", source="x").to_yaml()
    assert yaml.safe_load(plain) == {"version": 1, "source": "x", "target": "ort", "kernels": "auto"}
    assert "engine" in make_recipe("test", source="x", target="tensorrt", engine={"plan": True}).to_yaml()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("source: [", "not valid YAML"),
        ("- a\n- b\n", "a mapping of keys"),
        ("source: x\nspeed: 2\n", "speed: Extra inputs are not permitted"),
        ("source: x\ntolerance: .inf\n", "tolerance: Input should be a finite number"),
        ("target: ort\n", "source: Field required"),
    ],
)
def test_what_is_no_recipe_is_named(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(content)
    with pytest.raises(UsageError, match=rf"recipe\.yaml: .*{says}"):
        read_recipe(tmp_path / "recipe.yaml")


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"recipe\.yaml: No such file"):
        read_recipe(tmp_path / "recipe.yaml")


def test_a_source_given_beside_a_recipe_takes_the_place_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("version: 1\n")
    with pytest.raises(UsageError, match="source: Field required"):
        read_recipe(tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml", "path/to/model").source == "path/to/model"
