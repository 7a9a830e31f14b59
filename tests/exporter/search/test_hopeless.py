"""When a trial need not go on."""

from dataclasses import replace

from headway.exporter.search.hopeless import after_cut, before_building, once_timed
from headway.exporter.search.trial_record import Expected
from headway.exporter.search.trial_settings import TrialSettings

from tests.support.searching import record

CUT = TrialSettings(speedup=2.0, cut=("heads",), quantize="int8")


def test_a_cut_that_is_farther_off_stops_unless_it_is_trained_longer() -> None:
    known = record(3, 1.0, 5.0, 10.0, settings=CUT, expected=Expected(5.0, 10.0, 0.1), plain_mb=10.0)
    own = record(4, 0.0, 5.0, 10.0, settings=CUT, expected=Expected(5.0, 10.0, 0.2), plain_mb=10.0)
    why = after_cut(own, [known])
    assert why is not None and "trial 3" in why and "2.0 times as far" in why
    assert after_cut(replace(own, expected=Expected(5.0, 10.0, 0.12)), [known]) is None
    assert after_cut(replace(own, expected=Expected(4.9, 10.0, 0.2)), [known]) is None
    assert after_cut(replace(own, plain_mb=9.0), [known]) is None
    assert after_cut(own, [replace(known, state="refused")]) is None
    judged = replace(known, state="refused", expected=Expected(5.0, 10.0, 0.1, 1.0), measured=None)
    assert after_cut(own, [judged]) == why  # what judges refuse tells nothing: the same trials are made
    for other in ({"recover_minutes": 1.0}, {"quantize": "none"}, {"float_blocks": 1}, {"coverage": 0.9}):
        assert after_cut(replace(own, settings=replace(CUT, **other).to_json()), [known]) is None


def test_a_whole_model_stops_where_it_is_known_loses_too_much_or_is_beaten() -> None:
    known = [record(1, 1.0, 4.0, 10.0), record(2, 9.0, 9.0, 90.0)]
    own = record(5, 2.0, 5.0, 10.0, state="refused", measured=None)
    assert "trial 1" in (before_building(own, known, 10.0) or "")
    assert before_building(own, known, 10.0, only_equal=True) is None
    close = replace(own, expected=Expected(4.1, 10.0, 0.1, 2.0))
    assert before_building(close, known, 10.0) is None  # the table errs by more than that
    assert "2.00 points" in (before_building(close, known, 1.0) or "")
    assert "the model of trial 2" in (before_building(replace(close, model="2"), known, 10.0) or "")


def test_a_bundle_that_is_beaten_once_timed_is_none() -> None:
    known = [record(1, 1.0, 4.0, 10.0)]
    assert "beaten by trial 1" in (once_timed(1.0, 4.0, 10.0, known) or "")
    assert once_timed(0.9, 4.5, 10.0, known) is None
