"""Who makes trials, and what is known of a source before the first."""

from dataclasses import replace
from pathlib import Path

import pytest

from headway.checked import checked
from headway.errors import UsageError
from headway.exporter.search import crew as module
from headway.exporter.search.crew import OwnCrew, SourceFacts, own_crew
from headway.exporter.search.evaluate import TrialRequest
from headway.exporter.search.prepared_source import PreparedSource
from headway.exporter.search.trial_settings import TrialSettings

from tests.support.searching import table


def test_facts_are_measured_once_and_come_back_from_json(source: PreparedSource, facts: SourceFacts) -> None:
    assert facts.latencies == table() and facts.factors["none"] == 1.0 and 0 < facts.factors["int8 auto"] < 1
    assert facts.texts == {"learn": 90, "choose": 30, "judge": 30} and facts.ms == 10.0 and facts.quality > 99
    assert checked(SourceFacts, vars(facts)) == facts
    crew = OwnCrew(source)
    assert crew.facts(facts) is facts and crew.size == 1


@pytest.mark.parametrize(("changed", "what"), [("fingerprint", "the source .*"), ("text", r"the text \(.*lines.txt\)")])
def test_a_changed_source_or_text_is_noticed(
    source: PreparedSource, facts: SourceFacts, changed: str, what: str
) -> None:
    before = replace(facts, **{changed: "0" * 64})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"^{what} has changed since this search began: .* --force"):
        OwnCrew(source).facts(before)
    assert OwnCrew(source).facts(facts) == facts


def test_trials_are_made_in_the_order_in_which_they_are_begun(
    source: PreparedSource, facts: SourceFacts, tmp_path: Path
) -> None:
    crew = OwnCrew(source)
    for number in (1, 2):
        crew.begin(TrialRequest(number, TrialSettings(), (), facts.latencies, facts.factors, facts.ms, tmp_path))
    assert [crew.next().number for _ in range(2)] == [1, 2]


def test_a_crew_of_this_process_prepares_the_source(monkeypatch: pytest.MonkeyPatch, source: PreparedSource) -> None:
    asked = []

    class Prepared:
        def __init__(self, recipe: object, **keys: object):
            asked.append((recipe, keys))

        def __enter__(self) -> PreparedSource:
            return source

        def __exit__(self, *_: object) -> None:
            asked.append("left")

    monkeypatch.setattr(module, "prepared", Prepared)
    with own_crew(source.flow.recipe, work=None, allow_pickle=False, step=print) as crew:
        assert crew.size == 1
    assert (
        asked[0][0] is source.flow.recipe and asked[0][1]["clock"].__name__ == "SharedStopwatch" and asked[1] == "left"
    )
