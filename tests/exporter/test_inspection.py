"""`headway inspect`: numbers against the configuration they were made from, by hand."""

from pathlib import Path

import pytest

from headway.exporter.errors import UsageError
from headway.exporter.inspection import inspect_model

import models


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
