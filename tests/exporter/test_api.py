"""The public functions: paths of both kinds, recipes and options together, and every refusal with its next step."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import headway
from headway.errors import TargetError, UsageError
from headway.exporter import api
from headway.exporter.export import Exported
from headway.exporter.recipe.recipe import read_recipe

from tests.support import models


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(f"{word} of the rain" for word in models.WORDS))
    return path


def test_one_model_on_the_whole_way(bert: Path, text: Path, tmp_path: Path) -> None:
    """Strings and paths are taken alike; each step is reported."""
    steps: list[str] = []

    def progress(step: str, *, of: int | None = None, at: float | None = None) -> None:
        steps.append(step)

    exported = api.export(str(bert), str(tmp_path / "float32"), progress=progress)
    assert exported.path == tmp_path / "float32" and exported.parity.ok
    assert steps[0] == "read the source" and "verify" in steps
    compressed = api.compress(bert, tmp_path / "int8", data=str(text), quantize="int8", max_drop=100)
    assert compressed.manifest.compression is not None
    assert [stage["name"] for stage in compressed.manifest.compression["stages"]] == ["source", "quantize"]
    assert api.verify(str(tmp_path / "float32"), against=bert, data=str(text)).ok
    inspection = api.inspect(tmp_path / "float32")
    assert inspection["parameters"] == api.inspect(bert)["parameters"]
    result = api.bench(
        tmp_path / "float32", against=str(tmp_path / "int8"), rounds=3, data=str(text), out=str(tmp_path / "bench")
    )
    assert result.contestants == [str(tmp_path / "float32"), str(tmp_path / "int8")]
    assert tmp_path / "bench" / "bench.json" in result.files


def test_the_package_hands_them_on() -> None:
    for name in api.__all__:
        assert getattr(headway, name) is getattr(api, name)
    with pytest.raises(AttributeError, match="nothing"):
        api.nothing  # noqa: B018


def test_options_replace_what_a_recipe_says(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("source: somewhere\ntarget: tensorrt\nengine: {max_batch: 4, gpus: [sm_89]}\nmax_mb: 5\n")
    recipe = api.resolve_recipe(None, path)
    assert recipe == read_recipe(path)
    changed = api.resolve_recipe("elsewhere", str(path), engine={"plan": True}, task="fill-mask", data=None)
    assert (changed.source, changed.task, changed.max_mb) == ("elsewhere", "fill-mask", 5)
    assert (changed.engine.max_batch, changed.engine.gpus, changed.engine.plan) == (4, ["sm_89"], True)
    assert api.resolve_recipe(None, recipe) is recipe
    passes = api.Recipe(source="x", passes=[{"kind": "float16"}], data=Path("t.txt"))
    assert api.resolve_recipe("y", passes).passes == passes.passes
    with pytest.raises(UsageError, match=r"recipe\.yaml: max_mb"):
        api.resolve_recipe(None, path, max_mb=-1)


def test_a_target_that_is_named_replaces_the_recipe_s(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("source: somewhere\ntarget: web\n")
    assert api.resolve_recipe(None, tmp_path / "recipe.yaml").target == "web"
    assert api.resolve_recipe(None, tmp_path / "recipe.yaml", target="ort").target == "ort"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"source": None}, "give a source .* or a recipe that names one"),
        ({"source": "x", "dtype": "int8"}, "ranges of activations.*--quantize int8"),
        ({"source": "x", "tasks": "fill-mask"}, "options: tasks: there is no such key"),
        ({"source": "x", "column": "body"}, "no data is given"),
        ({"source": "x", "recipe": Path("nowhere.yaml")}, "nowhere.yaml: No such file"),
    ],
)
def test_wrong_options_say_what_to_do(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        api.resolve_recipe(**options)


COMPRESSION: dict[str, Any] = {
    "budget": {},
    "quantize": None,
    "recover_minutes": None,
    "trim_vocabulary": False,
    "search": False,
    "repair": True,
    "data": Path("text.txt"),
}


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({"budget": {"speedup": 2.0}}, ["fit", "repair", "recover"]),
        ({"budget": {"speedup": 2.0}, "recover_minutes": 0.0}, ["fit", "repair"]),
        ({"budget": {"flops": 0.5}, "repair": False}, ["fit"]),
        ({"quantize": "int8", "search": True}, ["quantize"]),
        ({"quantize": "float16", "trim_vocabulary": True}, ["trim_vocabulary", "float16"]),
        (
            {"budget": {"latency_ms": 8.0}, "recover_minutes": 10.0, "quantize": "int4"},
            ["fit", "repair", "recover", "quantize"],
        ),
    ],
)
def test_options_of_compress_become_passes(options: dict[str, Any], kinds: list[str]) -> None:
    recipe = api.compression_recipe("x", **COMPRESSION | options)
    assert [spec.kind for spec in recipe.passes] == kinds
    last = recipe.passes[-1].model_dump()
    assert last.get("block") == (32 if options.get("quantize") == "int4" else None)
    assert last.get("search", False) == options.get("search", False)
    assert recipe.passes[0].model_dump().get("rounds") == (1 if options.get("repair") is False else None)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "say what to do: `speedup`"),
        ({"search": True, "quantize": "float16"}, r"give `quantize` \(--quantize\) int8 or int4 with it"),
        ({"budget": {"speedup": 2.0, "flops": 0.5}}, "exactly one of speedup, latency_ms and flops"),
    ],
)
def test_a_compression_without_a_goal_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        api.compression_recipe("x", **COMPRESSION | options)


def test_a_compression_searches_and_replaces_nothing_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(api, "export", lambda *_, **given: asked.update(given))
    api.compress("x", "out", data="text.txt", quantize="int8")
    (quantize,) = asked["recipe"].passes
    assert quantize.kind == "quantize" and quantize.search is False
    assert asked["force"] is False and asked["allow_pickle"] is False


def test_too_few_rounds_are_refused(bert_bundle: Exported) -> None:
    with pytest.raises(UsageError, match="at least 3"):
        api.bench(bert_bundle.path, rounds=2)


def test_a_missing_library_is_named_with_its_extra() -> None:
    with pytest.raises(TargetError, match=r"this needs nonesuch, .*pip install 'headway\[gpu\]'"), api.needs("gpu"):
        import nonesuch  # type: ignore[import-not-found]  # noqa: F401


def test_the_functions_import_nothing_heavy_until_they_are_called() -> None:
    script = "import sys, headway.exporter.api as api; api.export; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "onnx_ir", "pydantic", "yaml", "transformers", "onnxruntime", "typer"} & set(loaded)
