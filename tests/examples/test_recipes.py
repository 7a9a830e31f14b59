"""The recipes: each is valid, and makes the bundle it promises of a model that was trained."""

import json
from pathlib import Path

import pytest

import headway
from headway.exporter.recipe.recipe import read_recipe

from tests.support.command_line import Headway

FOLDER = Path(__file__).parents[2] / "examples" / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_each_recipe_is_valid_and_named_on_its_page(recipe: Path) -> None:
    assert read_recipe(recipe).passes
    assert f"({recipe.name})" in (FOLDER / "README.md").read_text()


def test_the_recipe_for_phones_makes_an_app_s_folder(
    tickets: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run_headway: Headway = request.getfixturevalue("headway")
    recipe = FOLDER / "phone.yaml"
    made = headway.export(tickets["model"], tmp_path / "bundle", recipe=recipe, data=tickets["few"] / "train.jsonl")
    assert made.manifest.artifact == "model.ort"
    words = ("package", tmp_path / "bundle", "--for", "android", "--out", tmp_path / "app", "--max-mb", "12")
    assert run_headway(*words).returncode == 0
    assert (tmp_path / "app" / "src" / "main" / "kotlin" / "headway" / "Model.kt").is_file()
    test = [json.loads(line) for line in tickets["test"].read_text().splitlines()]
    answers = headway.open(tmp_path / "bundle").labels([row["text"] for row in test])
    right = sum(label == row["label"] for (label, _), row in zip(answers, test, strict=True))
    assert right / len(test) > 0.9
