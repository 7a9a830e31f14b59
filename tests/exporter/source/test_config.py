"""Configs that disagree with the weights, or are no JSON."""

from pathlib import Path

import pytest

from tests.support.refusals import edit_config, refused


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
