"""Figures as text."""

from headway.exporter.validate.estimates import Estimate
from headway.exporter.validate.report.cells import by_bundle, ends, ranged


def test_figures_have_their_intervals() -> None:
    assert ranged(Estimate(1.5, 1.25, 2.0)) == ranged({"value": 1.5, "low": 1.25, "high": 2.0}) == "1.5 [1.25, 2]"
    assert ranged(Estimate.exact(3.0)) == "3" and ranged(None) == "–"
    assert ends({"value": 1.5, "low": 1.25, "high": 2.0}) == (1.25, 2.0)


def test_a_sentence_stands_once_after_all_bundles_that_it_is_true_of() -> None:
    assert by_bundle([("a", "x."), ("b", "y."), ("c", "x.")]) == ["a, c: x.", "b: y."]
