"""What is tried next depends on what is recorded, and on nothing else."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from headway.errors import SourceError
from headway.exporter.recipe.search_space import SearchSpace
from headway.exporter.search.study import JOURNAL, SearchStudy
from headway.exporter.search.trial_record import Expected, TrialRecord
from headway.exporter.search.trial_settings import TrialSettings, key_of_settings

SPACE = SearchSpace(recover_minutes=[0.0])


def outcome(number: int, settings: TrialSettings) -> TrialRecord:
    """Return what a trial is said to come to: a plain function of its settings."""
    lost = settings.speedup**2 + (1 - settings.coverage) * 100
    expected = Expected(10 / settings.speedup, 100 * settings.coverage, 0.1, lost)
    return TrialRecord(number, settings.to_json(), "stopped", expected=expected)


def run(study: SearchStudy, count: int) -> list[TrialSettings]:
    tried = []
    for _ in range(count):
        asked = study.ask()
        assert asked is not None
        study.tell(outcome(*asked), 1.0)
        tried.append(asked[1])
    return tried


def test_a_search_that_is_killed_tries_the_same_as_one_that_is_not(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("whole", "killed", "other")]
    for folder in folders:
        folder.mkdir()
    whole = run(SearchStudy(folders[0], SPACE, 0), 16)
    assert len({key_of_settings(one) for one in whole}) == 16
    tried = run(SearchStudy(folders[1], SPACE, 0), 11)
    study = SearchStudy(folders[1], SPACE, 0)
    asked = study.ask()  # and here it is killed, while it writes
    assert asked is not None and asked[1] == whole[11]
    journal = folders[1] / JOURNAL
    journal.write_bytes(journal.read_bytes() + b'{"op_code":')
    journal.with_name(f"{JOURNAL}.lock").symlink_to(journal)
    study = SearchStudy(folders[1], SPACE, 0)
    assert len(study.records) == 11 and study.seconds == 1.0
    assert tried + run(study, 5) == whole
    assert run(SearchStudy(folders[2], SPACE, 1), 16) != whole


@pytest.mark.parametrize("ended", [0, 3])
def test_a_trial_that_was_waiting_when_the_search_was_killed_is_made(tmp_path: Path, ended: int) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = run(SearchStudy(tmp_path / "whole", SPACE, 0), ended + 3)
    study = SearchStudy(tmp_path / "killed", SPACE, 0)
    run(study, ended)
    for _ in range(2):  # killed twice, the second time with the trial that is made again
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(optuna.Study, "ask", lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                study.ask()
        study = SearchStudy(tmp_path / "killed", SPACE, 0)
    assert len(study.records) == ended
    assert run(study, 3) == whole[ended:]


def test_a_trial_made_again_is_not_forgotten_where_it_was_waiting(tmp_path: Path) -> None:
    study = SearchStudy(tmp_path, SPACE, 0)
    run(study, 12)
    asked = study.ask()
    assert asked is not None
    study = SearchStudy(tmp_path, SPACE, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optuna.Study, "ask", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            study.ask()
    again = SearchStudy(tmp_path, SPACE, 0).ask()
    assert again is not None and again[1] == asked[1]


def test_a_journal_is_cut_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(SearchStudy(tmp_path, SPACE, 0), 2)
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":')

    def killed(path: Path, *_: Any) -> None:
        open(path, "wb").close()  # noqa: PTH123 - as Path.write_bytes begins
        raise AssertionError("the journal is empty")

    monkeypatch.setattr(Path, "write_bytes", killed)
    study = SearchStudy(tmp_path, SPACE, 0)
    assert len(study.records) == 2 and journal.read_bytes().startswith(whole)


def test_a_lost_trial_is_made_again(tmp_path: Path) -> None:
    study = SearchStudy(tmp_path, SPACE, 0)
    run(study, 11)
    asked = study.ask()
    assert asked is not None
    study.tell(TrialRecord(asked[0], asked[1].to_json(), "lost", "its node is gone"), 2.0)
    again = study.ask()
    assert again is not None and again[1] == asked[1] and again[0] != asked[0]
    assert len(study.records) == 11


@pytest.mark.parametrize("killed", [0, 1, 2, 3])
def test_a_trial_that_ends_its_process_again_and_again_is_given_up(tmp_path: Path, killed: int) -> None:
    """It is counted over all runs: those that a kill ended, and those of a process elsewhere."""
    worst = None
    for _ in range(killed):
        worst = SearchStudy(tmp_path, SPACE, 0).ask()
    study = SearchStudy(tmp_path, SPACE, 0)
    for _ in range(3 - killed):
        worst = study.ask()
        assert worst is not None
        study.tell(TrialRecord(worst[0], worst[1].to_json(), "lost", "its node is gone"), 1.0)
    assert worst is not None and not study.records
    other = study.ask()
    assert other is not None and key_of_settings(other[1]) != key_of_settings(worst[1])
    study.tell(outcome(*other), 2.0)
    for one in (study, SearchStudy(tmp_path, SPACE, 0)):
        refused, _ = one.records
        assert refused.state == "refused" and refused.what == worst[1] and "ended 3 times" in refused.why


def test_a_trial_that_the_user_stops_is_not_lost(tmp_path: Path) -> None:
    tried = []
    for _ in range(5):
        study = SearchStudy(tmp_path, SPACE, 0)
        tried.append(study.ask())
        study.excuse()
    assert len({key_of_settings(one[1]) for one in tried if one is not None}) == 1 and not study.records


def test_trials_under_way_are_not_begun_twice_and_a_small_space_ends(tmp_path: Path) -> None:
    space = SearchSpace(speedups=[1.0], vocabulary=[1.0], quantize=["none", "int8"], float_blocks=[0, 1])
    study = SearchStudy(tmp_path, space, 0)
    asked = []
    while (one := study.ask()) is not None:
        asked.append(one)
    assert {key_of_settings(s) for _, s in asked} == {
        key_of_settings(s)
        for s in (TrialSettings(), TrialSettings(quantize="int8"), TrialSettings(quantize="int8", float_blocks=1))
    }


def test_random_search_has_no_design(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    drawn = run(SearchStudy(tmp_path / "a", SPACE, 0, random=True), 6)
    assert drawn != run(SearchStudy(tmp_path / "b", SPACE, 0), 6)


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    run(SearchStudy(tmp_path, SPACE, 0), 2)
    journal = tmp_path / JOURNAL
    lines = journal.read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if '"record"' in line)
    logged = json.loads(lines[place])
    logged["user_attr"]["record"]["state"] = "odd"
    lines[place] = json.dumps(logged)
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(SourceError, match=r"trials\.journal: cannot be read"):
        SearchStudy(tmp_path, SPACE, 0)
