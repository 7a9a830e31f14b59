"""`headway inspect`: numbers against the configuration they were made from, by hand."""

from pathlib import Path

import pytest

import headway
from headway.errors import SourceError, UsageError
from headway.exporter.check.lint import lint
from headway.exporter.compress.profile import profile_model
from headway.exporter.export import Exported, export
from headway.exporter.inspection import inspect_model
from headway.exporter.recipe.recipe import Recipe, make_recipe
from headway.kernels.cpu import library_path

from tests.support import models


def test_numbers_of_a_bert(tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "source", num_hidden_layers=3)
    found = inspect_model(str(source), task=None, length=20, time=True)
    assert [(b["heads"], b["head_dim"], b["intermediate_size"]) for b in found["blocks"]] == [(4, 8, [64])] * 3
    # Per token and layer: q, k, v, o of 32x32 and two products of 32x64, and twice 20 keys x 32 columns; 2 operations each.
    assert found["gflops_per_token"] * 1e9 == pytest.approx(3 * 2 * (4 * 32 * 32 + 2 * 32 * 64 + 2 * 20 * 32))
    assert sum(found["time_share"].values()) == pytest.approx(1)
    assert {"MatMul", "Softmax"} <= set(found["time_share"])
    assert list(found["embeddings"].values()) == [[300, 32], [2, 32], [66, 32]]


def test_a_length_beyond_the_positions_is_refused(bert: Path) -> None:
    with pytest.raises(UsageError, match="67"):
        inspect_model(str(bert), task=None, length=67, time=True)


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("multiple-choice", {}),
        pytest.param(
            "feature-extraction",
            {"kernels": "custom"},
            marks=pytest.mark.skipif(library_path() is None, reason="the kernels are not built here"),
        ),
        ("feature-extraction", {"target": "tensorrt", "engine": {"plan": True}}),
    ],
)
def test_bundles_of_every_kind_are_timed_and_linted(task: str, options: dict, tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "source", task=task)
    bundle = export(make_recipe("test", source=str(source), **options), tmp_path / "out").path
    found = inspect_model(str(bundle), task=None, length=20, time=True)
    assert sum(found["time_share"].values()) == pytest.approx(1)
    assert lint(bundle, "x86-vnni") == []


def test_a_bundle_says_what_its_model_is_made_of(bert_bundle: Exported) -> None:
    found = inspect_model(str(bert_bundle.path), task=None, length=20, time=False)
    assert [(b["heads"], b["head_dim"], b["intermediate_size"]) for b in found["blocks"]] == [(4, 8, [64])] * 4
    assert list(found["embeddings"].values()) == [[300, 32], [2, 32], [66, 32]]
    matrices = 4 * (4 * 32 * 32 + 2 * 32 * 64)
    assert found["vocabulary"] == 300
    assert matrices + 368 * 32 < found["parameters"] < 1.1 * (matrices + 368 * 32)
    assert found["gflops_per_token_at_128"] * 1e9 == pytest.approx(2 * (matrices + 4 * 2 * 128 * 32))
    assert (found["task"], found["length"], found["time_share"]) == ("feature-extraction", 20, {})


def test_a_length_beyond_a_bundle_s_is_refused(bert_bundle: Exported) -> None:
    with pytest.raises(UsageError, match="65"):
        inspect_model(str(bert_bundle.path), task=None, length=65, time=True)


def test_a_shape_beyond_the_positions_is_refused(bert: Path) -> None:
    with pytest.raises(UsageError, match="67"):
        profile_model(str(bert), task=None, data=None, shapes=[(1, 67)], threads=1, refresh=False)


def test_operators_of_a_bundle_are_timed_as_it_opens(bert: Path, bert_bundle: Exported, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n".join(f"{w} of the rain" for w in models.WORDS))
    recipe = Recipe(source=str(bert), data=tmp_path / "text.txt", passes=[{"kind": "quantize"}], max_drop=100)  # type: ignore[list-item]
    rounded = export(recipe, tmp_path / "out").path
    found = inspect_model(str(rounded), task=None, length=20, time=True)
    assert (
        "QuantizedLinear" in found["time_share"] or not headway.Bundle.open(rounded).manifest.session_options["kernels"]
    )
    with pytest.raises(UsageError, match="length 128 is longer than the 64"):
        inspect_model(str(rounded), task=None, length=128, time=True)
    with pytest.raises(UsageError, match="made for feature-extraction"):
        inspect_model(str(bert_bundle.path), task="fill-mask", length=20, time=False)


def test_a_bundle_is_no_source(bert_bundle: Exported) -> None:
    with pytest.raises(SourceError, match="is a Headway bundle"):
        profile_model(str(bert_bundle.path), task=None, data=None, shapes=[(1, 8)], threads=1, refresh=False)
