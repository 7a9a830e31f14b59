"""Keep a search's trials in a journal, and say what to try next: Optuna's samplers, seeded by what is recorded alone.

A sampler is made anew for each trial, from the seed and the number of trials before it. So what is tried next depends on nothing but
the journal: a search that was killed and goes on tries the same as one that was not.
"""

import json
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...checked import Mismatch
from ...errors import SourceError
from ..recipe.search_space import SearchSpace
from .trial_record import TrialRecord
from .trial_settings import TrialSettings, draw, first_picks, key_of_settings

JOURNAL = "trials.journal"
_NAME = "headway"
_RECORD, _REPEATS, _SECONDS, _EXCUSED = "record", "repeats", "seconds", "excused"
_STARTUP = 10
"""So many trials are known before the sampler trusts them."""

MOST_LOSSES = 3
"""A trial whose process ends so often is given up: it may need more memory than there is, and the search would make nothing else."""

_LUCKY, _TRIES = 4, 64
"""So often the sampler may propose what was tried before; then values are drawn at random, and at last the space counts as tried."""


class SearchStudy:
    """The trials of a search in `folder`. `random`: values are drawn at random from the beginning, to compare with.

    Raises SourceError where the journal cannot be read.
    """

    def __init__(self, folder: Path, space: SearchSpace, seed: int, *, random: bool = False):
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna, self._space, self._seed, self._random = optuna, space, seed, random
        self._running: dict[int, Any] = {}
        journal = folder / JOURNAL
        _whole_lines(journal)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # optuna calls its journal experimental
                self._storage = JournalStorage(JournalFileBackend(str(journal)))
                self._study = optuna.create_study(
                    storage=self._storage,
                    study_name=_NAME,
                    directions=["minimize"] * 3,
                    load_if_exists=True,
                )
            self._records = [
                _record_of(trial) for trial in self._study.get_trials(deepcopy=False) if _RECORD in trial.user_attrs
            ]
            self._again = self._give_up_running()
            self._losses = self._count_losses()
        except (ValueError, KeyError, TypeError, Mismatch) as error:
            raise SourceError(
                f"{journal}: cannot be read ({error}): give --force to begin anew, or another --out"
            ) from error

    @property
    def records(self) -> list[TrialRecord]:
        """What is known of all trials that ended, by their number; those that were lost are made again, and are not among them."""
        return sorted((r for r in self._records if r.state != "lost"), key=lambda record: record.number)

    @property
    def seconds(self) -> float:
        """How long the search has run, all its runs together."""
        return float(self._study.user_attrs.get(_SECONDS, 0.0))

    def ask(self) -> tuple[int, TrialSettings] | None:
        """Return the number and the settings of the next trial; None where everything was tried."""
        for attempt in range(_TRIES):
            number, trial, settings = self._draw(at_random=attempt >= _LUCKY)
            same = self._same_as(settings)
            if same is None and self._losses[key_of_settings(settings)] >= MOST_LOSSES:
                why = f"its process ended {MOST_LOSSES} times, perhaps for lack of memory"
                self._note(trial, TrialRecord(number, settings.to_json(), "refused", why))
            elif same is None:
                trial.set_user_attr("settings", settings.to_json())
                self._running[number] = (trial, settings)
                return number, settings
            else:
                trial.set_user_attr(_REPEATS, same.number if isinstance(same, TrialRecord) else same)
                self._close(trial, same if isinstance(same, TrialRecord) else None)
        return None

    def tell(self, record: TrialRecord, seconds: float) -> None:
        """Take note of what a trial did, and of how long the search has run by then."""
        trial, settings = self._running.pop(record.number)
        if record.state == "lost":
            self._again.append(dict(trial.params))
            self._losses[key_of_settings(settings)] += 1
        self._note(trial, record)
        self._study.set_user_attr(_SECONDS, seconds)

    def excuse(self) -> None:
        """Take note that the trials under way end by the user's wish, and are not lost."""
        for trial, _ in self._running.values():
            trial.set_user_attr(_EXCUSED, True)

    def _note(self, trial: Any, record: TrialRecord) -> None:
        trial.set_user_attr(_RECORD, record.to_json())
        self._close(trial, record)
        self._records.append(record)

    def _draw(self, *, at_random: bool) -> tuple[int, Any, TrialSettings]:
        states = self._optuna.trial.TrialState
        before = sum(trial.state != states.FAIL for trial in self._study.get_trials(deepcopy=False))
        self._study.sampler = self._sampler(before, at_random=at_random or self._random)
        first = [] if self._random else [_as_numbers(self._space, one) for one in first_picks(self._space)]
        fixed = self._again.pop(0) if self._again else first[before] if before < len(first) else None
        if fixed is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._study.enqueue_trial(fixed)
        trial = self._study.ask()
        return trial.number, trial, draw(self._space, lambda name, values: _suggest(trial, name, values))

    def _sampler(self, before: int, *, at_random: bool) -> Any:
        seed = int(np.random.SeedSequence([self._seed, before]).generate_state(1)[0])
        if at_random:
            return self._optuna.samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # optuna calls some of these experimental
            return self._optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=_STARTUP, multivariate=True, group=True, constant_liar=True
            )

    def _same_as(self, settings: TrialSettings) -> TrialRecord | int | None:
        """Return the trial with the same settings, or the number of the one that is under way; None where there is none."""
        key = key_of_settings(settings)
        for number, (_, other) in self._running.items():
            if key_of_settings(other) == key:
                return number
        return next((record for record in self.records if key_of_settings(record.what) == key), None)

    def _close(self, trial: Any, record: TrialRecord | None) -> None:
        """Tell the sampler: figures that are expected, since those do not change from one run to another, as measured ones do."""
        states = self._optuna.trial.TrialState
        expected = record.expected if record is not None else None
        if record is not None and record.state == "lost":
            self._study.tell(trial, state=states.FAIL)
        elif expected is None or expected.lost is None:
            self._study.tell(trial, state=states.PRUNED)
        else:
            self._study.tell(trial, [expected.lost, expected.ms, expected.mb])

    def _give_up_running(self) -> list[dict[str, Any]]:
        """Close the trials that a killed run left; return what they tried, which is tried again."""
        states = self._optuna.trial.TrialState
        left = [t for t in self._study.get_trials(deepcopy=False) if t.state in (states.RUNNING, states.WAITING)]
        for trial in left:  # the study itself tells of no trial that was waiting still
            self._storage.set_trial_state_values(trial._trial_id, states.FAIL)
        return [tried for trial in left if (tried := _tried(trial)) is not None]

    def _count_losses(self) -> Counter[str]:
        """Return by settings how many trials ended with their process, in all runs of the search."""
        failed = [t for t in self._study.get_trials(deepcopy=False) if t.state == self._optuna.trial.TrialState.FAIL]
        attributes = [t.user_attrs for t in failed if "settings" in t.user_attrs and _EXCUSED not in t.user_attrs]
        return Counter(key_of_settings(TrialSettings.from_json(known["settings"])) for known in attributes)


def _tried(trial: Any) -> dict[str, Any] | None:
    """Return what a trial tried, or was about to try; None where nothing was drawn yet."""
    if "settings" in trial.user_attrs:
        return dict(trial.params)
    fixed: dict[str, Any] | None = trial.system_attrs.get("fixed_params")
    return fixed


def _suggest(trial: Any, name: str, values: Sequence[Any]) -> Any:
    """Return a value of a choice. Numbers are drawn by their place, so that the sampler knows which are near each other."""
    if len(values) == 1:
        return values[0]
    if _is_ordered(values):
        return values[trial.suggest_int(name, 0, len(values) - 1)]
    return trial.suggest_categorical(name, list(values))


def _is_ordered(values: Sequence[Any]) -> bool:
    return all(type(value) in (int, float) for value in values)


def _as_numbers(space: SearchSpace, picks: dict[str, Any]) -> dict[str, Any]:
    """Return picks as the sampler knows them: of numbers their places among the sorted values."""
    lists: dict[str, list[Any]] = {
        "speedup": space.speedups,
        "recover_minutes": space.recover_minutes,
        "vocabulary": space.vocabulary,
        "float_blocks": space.float_blocks,
    }
    return {name: sorted(lists[name]).index(value) if name in lists else value for name, value in picks.items()}


def _record_of(trial: Any) -> TrialRecord:
    return TrialRecord.from_json(trial.user_attrs[_RECORD])


def _whole_lines(journal: Path) -> None:
    """Cut a line that a killed run was writing, and remove the lock that it held: the folder's own lock is held by now."""
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if not journal.is_file():
        return
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    while whole and not _is_json(whole[whole[:-1].rfind(b"\n") + 1 :]):
        whole = whole[: whole[:-1].rfind(b"\n") + 1]
    if whole != content:
        os.truncate(journal, len(whole))  # in one step: written anew, a kill between would lose all trials


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
