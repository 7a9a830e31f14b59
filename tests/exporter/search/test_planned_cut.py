"""Cuts of trials: by the table alone, of what may go, and kept."""

from pathlib import Path

import pytest

from headway.errors import GateError
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.search import planned_cut
from headway.exporter.search.planned_cut import cut_by_table
from headway.exporter.search.predict import predicted_ms
from headway.exporter.search.prepared_source import PreparedSource
from headway.exporter.search.trial_settings import TrialSettings

from tests.support.searching import table


def test_a_cut_meets_its_budget_by_the_table_and_is_kept(
    source: PreparedSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrialSettings(2.0, ("heads", "neurons"))
    _, job = source.begin(settings, tmp_path / "a", tmp_path / "out")
    made, changes = cut_by_table(job, settings, table())
    assert 0.9 * 5.0 <= predicted_ms(table(), job.outcome.model) <= 5.0 and changes
    assert made.plan and made.flops is not None and made.flops < 1
    length = job.given.stopwatch.workload.mean_tokens
    share = job.anatomy.flops_per_token(length) / read_anatomy(source.model).flops_per_token(length)
    assert share <= made.flops < share + 1e-3
    monkeypatch.setattr(planned_cut, "fit", lambda *_, **__: pytest.fail("a plan was searched again"))
    _, again = source.begin(settings, tmp_path / "b", tmp_path / "out")
    assert cut_by_table(again, settings, table()) == (made, changes)


@pytest.mark.parametrize(("kind", "stays"), [("heads", "neurons"), ("neurons", "heads")])
def test_only_what_may_go_goes(kind: str, stays: str, source: PreparedSource, tmp_path: Path) -> None:
    settings = TrialSettings(1.25, (kind,))
    _, job = source.begin(settings, tmp_path / "a", tmp_path / "out")
    made, _ = cut_by_table(job, settings, table())
    assert made.plan and getattr(made.plan[0], kind) and not getattr(made.plan[0], stays)
    assert not made.plan[0].ranks and not made.plan[0].blocks


def test_a_budget_out_of_reach_says_what_may_go(source: PreparedSource, tmp_path: Path) -> None:
    settings = TrialSettings(4.0, ("heads",))
    _, job = source.begin(settings, tmp_path / "a", tmp_path / "out")
    with pytest.raises(GateError, match="a budget of 4 × cannot be met by removing heads"):
        cut_by_table(job, settings, table())
