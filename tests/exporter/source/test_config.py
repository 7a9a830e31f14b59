"""Configs that disagree with the weights, or are no JSON."""

import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from headway.errors import HeadwayWarning
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.source.config import check_config, normalized_config
from headway.exporter.source.source import open_source

from tests.support.refusals import edit_config, refused
from tests.support.variants import canonical


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_hidden_layers": 2}, "disagrees"),
        ({"num_hidden_layers": 6}, "lacks"),
        ({"hidden_size": 64}, "disagrees"),
        ({"vocab_size": 12}, "disagrees"),
    ],
)
def test_a_config_that_disagrees_with_the_weights(copy: Path, tmp_path: Path, changes: dict, reason: str) -> None:
    edit_config(copy, **changes)
    error = refused(copy, tmp_path / "out")
    assert error.exit_code == 3
    assert reason in str(error) or "does not load" in str(error)


def test_broken_config(copy: Path, tmp_path: Path) -> None:
    (copy / "config.json").write_text('{"model_type": ')
    error = refused(copy, tmp_path / "out")
    assert error.exit_code == 3
    assert "config.json" in str(error)


def test_counts_are_read_under_the_familys_own_names() -> None:
    assert normalized_config({"model_type": "distilbert", "n_layers": 3, "n_heads": 4, "dim": 32}) == {
        "num_layers": 3,
        "num_attention_heads": 4,
    }
    assert normalized_config({"model_type": "never heard of"}) == {}


def test_a_disagreement_is_named(bert: Path) -> None:
    """Parity decides whether it matters."""
    source, anatomy = open_source(str(bert)), read_anatomy(canonical(bert))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_config(source, anatomy)
    wrong = replace(source, config=source.config | {"num_attention_heads": 2})
    with pytest.warns(HeadwayWarning, match="num_attention_heads = 2, the graph has 4"):
        check_config(wrong, anatomy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_config(replace(source, config=wrong.config | {"pruned_heads": {}}), anatomy)


def test_groups_of_layers_run_as_often_as_layers_are_declared() -> None:
    config = {"model_type": "albert", "num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2}
    assert normalized_config(config)["num_layers"] == 8
