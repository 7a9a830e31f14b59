"""Recipes: read, checked, written again."""

from pathlib import Path

import pytest
import yaml

from headway.errors import UsageError
from headway.exporter.recipe.passes import PASSES
from headway.exporter.recipe.recipe import Recipe, find_data, make_recipe, read_recipe


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
        ("source: x\nspeed: 2\n", "speed: there is no such key"),
        ("source: x\ntolerance: .inf\n", "tolerance: a finite number is expected"),
        ("target: ort\n", "source: is missing"),
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
    with pytest.raises(UsageError, match="source: is missing"):
        read_recipe(tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml", "path/to/model").source == "path/to/model"


def test_data_is_a_file_or_several() -> None:
    assert Recipe(source="x").files == ()
    one = make_recipe("r", source="x", data=["a.txt"])
    assert one == make_recipe("r", source="x", data="a.txt") and one.files == (Path("a.txt"),)
    assert "data: a.txt\n" in one.to_yaml()
    several = make_recipe("r", source="x", data=("a.txt", Path("b.txt")))
    assert several.files == (Path("a.txt"), Path("b.txt")) and "data:\n- a.txt\n- b.txt\n" in several.to_yaml()


@pytest.mark.parametrize("data", [[], 5, ["a.txt", 5], [["a.txt"]], {"a": "b"}])
def test_data_that_is_no_file_is_refused_in_one_sentence(data: object) -> None:
    with pytest.raises(UsageError, match=r"^r\.yaml: data: a path or a list of paths is expected$"):
        make_recipe("r.yaml", source="x", data=data)


def test_a_bundle_s_recipe_names_files_so_that_they_can_be_told_apart(tmp_path: Path) -> None:
    def portable(*paths: str | Path) -> tuple[str, ...]:
        recipe = make_recipe("r", source="x", data=[*paths]).without_places()
        return tuple(str(path) for path in recipe.files)

    assert portable(tmp_path / "a.txt") == ("a.txt",)
    assert portable(tmp_path / "a.txt", "texts/b.txt") == ("a.txt", "texts/b.txt")
    assert portable(tmp_path / "one" / "a.txt", tmp_path / "two" / "a.txt") == ("one/a.txt", "two/a.txt")


def test_texts_of_a_bundle_are_found_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "models" / "bundle" / "recipe.yaml"
    (file.parent).mkdir(parents=True)
    (tmp_path / "models" / "one").mkdir()
    recipe = make_recipe("r", source="x", data=["one/a.txt", "b.txt"])
    assert find_data(recipe, file) == [Path("one/a.txt"), Path("b.txt")]  # a recipe by itself: names stay
    (file.parent / "headway.json").write_text("{}")
    for name in ("one/a.txt", "b.txt"):
        with pytest.raises(UsageError, match=rf"its data {name} is neither here nor beside the bundle: .* --data"):
            find_data(recipe, file)
        (tmp_path / "models" / name).write_text("text")
    assert find_data(recipe, file) == [tmp_path / "models" / "one" / "a.txt", tmp_path / "models" / "b.txt"]
