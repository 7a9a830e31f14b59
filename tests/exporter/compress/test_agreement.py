"""What held-out texts say about a model, and the gate on it."""

import numpy as np
import pytest

from headway.checked import checked
from headway.errors import GateError
from headway.exporter.compress.agreement import Agreement, Judged, check_drop
from headway.exporter.compress.comparisons import Companion
from headway.exporter.compress.figures import combined, constant, mean
from headway.manifest_parts import AgreementRecord

RIGHT = np.random.default_rng(0).random((2, 80)) < [[0.9], [0.8]]


def agreement(name: str, now: np.ndarray = RIGHT[1], then: np.ndarray | None = None) -> Agreement:
    figures = [constant(100.0) if x is None else combined([mean(x.astype(float))], [100.0]) for x in (now, then)]
    return Agreement(
        name, 80, "accuracy", "accuracy", figures[0], figures[1], (Companion("beside", 12.5),), "It means this."
    )


def test_figures_have_intervals_and_what_is_lost_is_compared_text_by_text() -> None:
    then = RIGHT[1].copy()
    then[np.flatnonzero(~then)[:2]] = True  # the model is wrong on two texts more than its source
    one = agreement("a.txt", then=then)
    assert one.lost == pytest.approx(2.5) and one.points == pytest.approx(100 * RIGHT[1].mean())
    assert one.interval[1] - one.interval[0] > 10
    low, high = one.lost_interval
    assert 0 <= low < 2.5 < high < 7  # two accuracies on different texts would be much less sure


def test_the_record_is_what_the_manifest_may_hold() -> None:
    record = Judged((agreement("a.txt"), agreement("b.txt", RIGHT[0]))).record()
    assert checked(AgreementRecord, record) == record
    worst, other = record["files"]
    assert record["worst"] == "a.txt" and worst["lost"] > other["lost"]
    assert worst["low"] < worst["points"] < worst["high"] and worst["lost_low"] == pytest.approx(100 - worst["high"])
    assert worst["companions"] == [{"name": "beside", "value": 12.5, "unit": "%"}]


def test_the_gate_is_on_the_file_that_loses_most() -> None:
    good, bad = agreement("good.txt", RIGHT[0]), agreement("bad.txt")
    check_drop(Judged((good, bad)), bad.lost + 0.01)
    for files in ((good, bad), (bad, good)):
        with pytest.raises(
            GateError, match=r"\d points of accuracy were lost on held-out text of bad\.txt \(.* to .*\), 15 are"
        ):
            check_drop(Judged(files), 15)
    with pytest.raises(GateError, match=r"were lost on held-out text \(.*\), 15 are allowed"):
        check_drop(Judged((bad,)), 15)


def test_what_cannot_be_told_is_no_success() -> None:
    broken = Agreement("broken.txt", 80, "accuracy", "accuracy", constant(np.nan), constant(100.0), (), "")
    with pytest.raises(GateError, match=r"broken\.txt"):
        check_drop(Judged((agreement("a.txt"), broken)), 100)
