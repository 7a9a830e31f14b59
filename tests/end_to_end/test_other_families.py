"""Families beside those of the support matrix: exported, verified, and passes tried on them, with what the published table says."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.families import measured
from benchmarks.results import kept
from tests.support.other_families import OTHER_FAMILIES

QUICK = ("qwen3",)
"""One with grouped queries, gates and rotary positions."""

PUBLISHED: dict[str, dict[str, Any]] = kept("families")["families"]


@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=[] if f in QUICK else [pytest.mark.slow]) for f in PUBLISHED if f in OTHER_FAMILIES],
)
def test_a_family_does_what_is_published(family: str, tmp_path: Path) -> None:
    row, published = measured(family, tmp_path), PUBLISHED[family]
    assert row["class"] == published["class"]
    assert row.get("refused") == published.get("refused")
    if "refused" not in row:
        assert row["largest_difference"] < 1e-4
        assert (row["attentions"], row["cells"]) == (published["attentions"], published["cells"])
