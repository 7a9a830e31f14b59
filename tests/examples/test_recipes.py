"""The recipes: each is valid, and makes the bundle it promises of a model that was trained."""

import json
from pathlib import Path

import pytest

import headway
from headway.exporter.recipe.recipe import read_recipe

from tests.support import models
from tests.support.command_line import Headway

FOLDER = Path(__file__).parents[2] / "examples" / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_each_recipe_is_valid_and_named_on_its_page(recipe: Path) -> None:
    assert read_recipe(recipe).passes
    assert f"({recipe.name})" in (FOLDER / "README.md").read_text()


def makes_an_app_s_folder(run_headway: Headway, model: Path, data: Path, folder: Path, **options: float) -> None:
    """Make a bundle by the recipe for phones in `folder`, and an app's files of it."""
    made = headway.export(model, folder / "bundle", recipe=FOLDER / "phone.yaml", data=data, **options)
    assert made.manifest.artifact == "model.ort"
    words = ("package", folder / "bundle", "--for", "android", "--out", folder / "app", "--max-mb", "12")
    assert run_headway(*words).returncode == 0
    assert (folder / "app" / "src" / "main" / "kotlin" / "headway" / "Model.kt").is_file()


def test_the_recipe_for_phones_makes_an_app_s_folder(
    bert_classifier: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Of a random model, whose answers may change as they will."""
    data = models.write_labeled(tmp_path / "lines.jsonl", 80)
    makes_an_app_s_folder(request.getfixturevalue("headway"), bert_classifier, data, tmp_path, max_drop=100)


@pytest.mark.slow
def test_what_the_recipe_for_phones_makes_answers_right(
    tickets: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    few = tickets["few"] / "train.jsonl"
    makes_an_app_s_folder(request.getfixturevalue("headway"), tickets["model"], few, tmp_path)
    test = [json.loads(line) for line in tickets["test"].read_text().splitlines()]
    answers = headway.open(tmp_path / "bundle").labels([row["text"] for row in test])
    right = sum(label == row["label"] for (label, _), row in zip(answers, test, strict=True))
    assert right / len(test) > 0.9
