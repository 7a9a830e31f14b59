"""The order in which blocks stay float."""

from pathlib import Path

import pytest

from headway.exporter.compress.sensitivity import Effect
from headway.exporter.recipe.pass_specs import QuantizeSpec
from headway.exporter.search import sensitive_blocks as module
from headway.exporter.search.prepared_source import PreparedSource
from headway.exporter.search.sensitive_blocks import sensitive_blocks


def test_blocks_that_lose_most_come_first_and_are_found_once(
    source: PreparedSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    harm = {0: 1.0, 1: 3.0, 2: 2.0}
    monkeypatch.setattr(
        module, "effects", lambda _, chosen, *a, **k: ([Effect(g, harm[g.block]) for g in chosen.groups], 0.0)
    )
    spec = QuantizeSpec(ranges="mse")  # no other test has asked for it
    order = sensitive_blocks(source.first, spec)
    assert [next(iter({name.split(".layer.")[1][0] for name in names})) for names in order] == ["1", "2", "0"]
    assert all(not name.endswith(".weight") for names in order for name in names) and len(order[0]) == 6
    monkeypatch.setattr(module, "effects", lambda *_, **__: pytest.fail("measured again"))
    assert sensitive_blocks(source.first, spec) == order
