"""A whole search: the same seed gives the same front, also where it is stopped; one search at a time; what is there stays true."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import headway
from headway.errors import GateError, SourceError, UsageError
from headway.exporter.recipe.recipe import Recipe, make_recipe
from headway.exporter.search.crew import OwnCrew, SourceFacts
from headway.exporter.search.front_file import BUNDLES, FrontFile, read_front
from headway.exporter.search.prepared_source import PreparedSource
from headway.exporter.search.run_search import PLAN, SearchRequest, search
from headway.exporter.search.study import JOURNAL
from headway.exporter.search.trial_record import TrialRecord
from headway.replaced import lock

from tests.support.searching import record, search_recipe

TRIALS = 5


class Known(OwnCrew):
    """A crew that measures nothing of its source anew."""

    def __init__(self, source: PreparedSource, facts: SourceFacts):
        super().__init__(source)
        self._facts = facts

    def facts(self, known: SourceFacts | None) -> SourceFacts:
        return known or self._facts


class Killed(BaseException):
    """What no code of the search expects."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread: on a busy machine more of them add in another order, and a text at the border gets another class."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def recipe(source: PreparedSource) -> Recipe:
    given = source.flow.recipe
    return search_recipe(Path(given.source), Path(str(given.data)))


@pytest.fixture
def hire(source: PreparedSource, facts: SourceFacts) -> Callable[..., Any]:
    @contextmanager
    def crew(most: int = 1000) -> Any:
        one = Known(source, facts)
        make, count = one.next, [0]

        def next_one() -> TrialRecord:
            count[0] += 1
            if count[0] > most:
                raise Killed
            return make()

        one.next = next_one  # type: ignore[method-assign]
        yield one

    return crew


def found(front: FrontFile) -> list[dict[str, Any]]:
    """Return what a front holds, but for where it lies and what time it took."""
    return [{k: v for k, v in asdict(b).items() if k != "command"} for b in front.bundles]


def test_the_same_seed_gives_the_same_front_also_where_it_was_stopped(
    recipe: Recipe, hire: Callable[..., Any], tmp_path: Path
) -> None:
    told: list[Any] = []
    whole = search(
        SearchRequest(recipe, tmp_path / "whole", 60, TRIALS), hire, lambda name, **keys: told.append((name, keys))
    )
    assert sum(whole.trials.values()) == TRIALS and whole.bundles
    assert told[-1][0].startswith(f"search, {TRIALS} trials") and told[-1][1] == {"of": 1000, "at": 1000.0}
    folder = tmp_path / "whole"
    assert read_front(folder) == whole and "Trials" in (folder / "front.html").read_text()
    assert sorted(p.name for p in (folder / BUNDLES).iterdir()) == sorted(b.name for b in whole.bundles)
    for bundle in whole.bundles:
        opened = headway.open(folder / BUNDLES / bundle.name)
        stages = opened.manifest.compression["stages"]  # type: ignore[index]
        assert stages[-1]["ms"] == bundle.measured.ms and stages[-1]["quality"] == bundle.measured.quality
    parted = SearchRequest(recipe, tmp_path / "parted", 60, TRIALS)
    with pytest.raises(Killed):
        search(parted, lambda: hire(3))
    kept = read_front(parted.out)
    assert kept.bundles and sum(kept.trials.values()) == 3
    (parted.bundles / "999").mkdir()
    (parted.bundles / ".005.new-abc").mkdir()
    (parted.bundles / ".006.recover.safetensors").touch()
    assert found(search(parted, hire)) == found(whole)
    assert sorted(p.name for p in parted.bundles.iterdir()) == sorted(b.name for b in whole.bundles)
    again = search(parted, lambda: hire(0))  # nothing is left to do
    assert found(again) == found(whole)


def stub(tmp_path: Path, records: list[TrialRecord], facts: SourceFacts, size: int = 1) -> Callable[..., Any]:
    """Return a crew that comes to given records, with empty bundles."""

    class Stub:
        def __init__(self) -> None:
            self.size = size
            self.begun: list[Any] = []

        def facts(self, known: SourceFacts | None) -> SourceFacts:
            return known or facts

        def begin(self, request: Any) -> None:
            self.begun.append(request)

        def next(self) -> TrialRecord:
            request = self.begun.pop(0)
            come = replace(records.pop(0), number=request.number, settings=request.settings.to_json())
            if come.state == "bundle":
                request.out.mkdir(parents=True)
            return come

    @contextmanager
    def hire() -> Any:
        yield Stub()

    return hire


def test_bundles_that_leave_the_front_are_removed(facts: SourceFacts, recipe: Recipe, tmp_path: Path) -> None:
    request = SearchRequest(recipe, tmp_path / "out", 60, 3)
    records = [record(0, 2.0, 5.0, 10.0), record(0, 3.0, 4.0, 10.0), record(0, 1.0, 4.0, 9.0)]
    front = search(request, stub(tmp_path, records, facts))
    assert [b.trial for b in front.bundles] == [2]
    assert [p.name for p in request.bundles.iterdir()] == ["002"]


def test_a_lost_trial_is_made_again_and_counts_once(facts: SourceFacts, recipe: Recipe, tmp_path: Path) -> None:
    lost = TrialRecord(0, {}, "lost", "its node is gone")
    records = [record(0, 2.0, 5.0, 10.0), lost, record(0, 1.0, 6.0, 11.0), record(0, 3.0, 4.0, 9.0)]
    front = search(SearchRequest(recipe, tmp_path / "out", 60, 3), stub(tmp_path, records, facts, size=2))
    assert front.trials == {"bundle": 3} and not records


def test_a_search_that_the_user_stops_again_and_again_goes_on(
    facts: SourceFacts, recipe: Recipe, tmp_path: Path
) -> None:
    request = SearchRequest(recipe, tmp_path / "out", 60, 1)

    @contextmanager
    def stopped() -> Any:
        with stub(tmp_path, [], facts)() as crew:

            def interrupt() -> None:
                raise KeyboardInterrupt

            crew.next = interrupt
            yield crew

    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            search(request, stopped)
    front = search(request, stub(tmp_path, [record(0, 1.0, 1.0, 1.0)], facts))
    assert front.trials == {"bundle": 1}


def test_an_empty_front_says_why(facts: SourceFacts, recipe: Recipe, tmp_path: Path) -> None:
    refused = [record(0, 1.0, 1.0, 1.0, state="refused", measured=None, why="it has no blocks") for _ in range(2)]
    request = SearchRequest(recipe, tmp_path / "out", 60, 2)
    with pytest.raises(
        GateError, match="the front is empty: 2 trials made no bundle, 2 of them since it has no blocks"
    ):
        search(request, stub(tmp_path, refused, facts))
    assert read_front(request.out).bundles == []
    with pytest.raises(GateError, match="no trial has ended: search for longer"):
        search(replace(request, out=tmp_path / "none", minutes=0.0), stub(tmp_path, [], facts))


def test_what_lies_in_the_folder_is_not_overwritten(facts: SourceFacts, recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(UsageError, match=r"holds thesis.txt and no search"):
        search(SearchRequest(recipe, tmp_path / "other", 60, 1, force=True), stub(tmp_path, [], facts))
    request = SearchRequest(recipe, tmp_path / "out", 60, 1)
    search(request, stub(tmp_path, [record(0, 1.0, 1.0, 1.0)], facts))
    other = replace(request, recipe=recipe.model_copy(update={"max_drop": 1.0}))
    with pytest.raises(UsageError, match="holds a search of another source, text, space or seed"):
        search(other, stub(tmp_path, [], facts))
    front = search(replace(other, force=True), stub(tmp_path, [record(0, 0.5, 1.0, 1.0)], facts))
    assert [b.chosen_by for b in front.bundles] == [0.5]
    plan = json.loads((request.out / PLAN).read_text())
    plan["facts"]["ms"] = "fast"
    (request.out / PLAN).write_text(json.dumps(plan))
    with pytest.raises(SourceError, match=r"search.json: is damaged \(ms: a finite number"):
        search(other, stub(tmp_path, [], facts))
    (request.out / PLAN).unlink()
    with pytest.raises(UsageError, match="and no search"):
        search(other, stub(tmp_path, [], facts))
    assert (request.out / JOURNAL).is_file()


def test_a_search_goes_on_with_the_source_and_the_machine_that_it_began_with(
    source: PreparedSource, facts: SourceFacts, recipe: Recipe, tmp_path: Path
) -> None:
    @contextmanager
    def own() -> Any:
        yield OwnCrew(source)

    slow = facts.machine | {"cpu": "a slow one"}
    changes: list[tuple[dict[str, Any], str]] = [
        ({"text": "x"}, r"the text \(.*\) has changed"),
        ({"machine": slow}, r"measured its latencies on another machine \(a slow one\)"),
    ]
    for number, (changed, message) in enumerate(changes):
        request = SearchRequest(recipe, tmp_path / str(number), 60, 1)
        before = replace(facts, **changed)
        search(request, stub(tmp_path, [record(0, 1.0, 1.0, 1.0)], before))
        plan = (request.out / PLAN).read_bytes()
        with pytest.raises(UsageError, match=message):
            search(replace(request, trials=2), own)
        assert (request.out / PLAN).read_bytes() == plan and len(read_front(request.out).bundles) == 1


def test_force_begins_anew_once_the_search_can_begin(facts: SourceFacts, recipe: Recipe, tmp_path: Path) -> None:
    request = SearchRequest(recipe, tmp_path / "out", 60, 2)
    search(request, stub(tmp_path, [record(0, 1.0, 1.0, 1.0), record(0, 0.5, 2.0, 1.0)], facts))
    (chosen := request.out / "chosen").mkdir()  # what `headway pick --out` copied there
    (chosen / "own.txt").touch()

    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in request.out.rglob("*") if path.is_file()}

    before = content()

    @contextmanager
    def broken() -> Any:
        raise SourceError("the source is damaged")
        yield

    anew = replace(request, trials=1, force=True)
    with pytest.raises(SourceError, match="the source is damaged"):
        search(anew, broken)
    assert content() == before and (request.bundles / "001").is_dir()
    front = search(anew, stub(tmp_path, [record(0, 3.0, 1.0, 1.0)], facts))
    assert front.trials == {"bundle": 1} and [b.chosen_by for b in front.bundles] == [3.0]
    assert (chosen / "own.txt").is_file() and [p.name for p in request.bundles.iterdir()] == ["000"]
    (request.out / PLAN).write_text("{")
    with pytest.raises(SourceError, match=r"search\.json"):
        search(replace(anew, force=False), stub(tmp_path, [], facts))
    assert search(anew, stub(tmp_path, [record(0, 4.0, 1.0, 1.0)], facts)).bundles[0].chosen_by == 4.0


def test_what_could_not_begin_leaves_nothing_and_blocks_nothing(
    facts: SourceFacts, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = SearchRequest(recipe, tmp_path / "out", 60, 1)
    request.out.mkdir()
    (request.out / f".{PLAN}.part").write_text("{")

    @contextmanager
    def broken() -> Any:
        (request.out / ".work").mkdir()
        (request.out / "own").mkdir()
        raise SourceError("the source is damaged")
        yield

    with pytest.raises(SourceError, match="the source is damaged"):
        search(request, broken)
    assert [p.name for p in request.out.iterdir()] == ["own"]  # which somebody else put there meanwhile
    (request.out / "own").rmdir()
    (request.out / f".{PLAN}.part").write_text("{")
    assert search(request, stub(tmp_path, [record(0, 1.0, 1.0, 1.0)], facts)).bundles


def test_a_fault_of_the_system_in_a_trial_is_not_blamed_on_the_folder(
    facts: SourceFacts, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = SearchRequest(recipe, tmp_path / "out", 60, 1)

    @contextmanager
    def away() -> Any:
        raise ConnectionResetError(104, "the cluster is away")
        yield

    with pytest.raises(ConnectionResetError, match="the cluster is away"):
        search(request, away)

    def full(*_: object) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(FrontFile, "write", full)
    with pytest.raises(UsageError, match="out: the disk is full"):
        search(request, stub(tmp_path, [record(0, 1.0, 1.0, 1.0)], facts))


@pytest.mark.parametrize("allow", [True, False])
def test_the_command_of_a_bundle_opens_its_source_as_the_search_did(
    facts: SourceFacts, recipe: Recipe, tmp_path: Path, allow: bool
) -> None:
    request = SearchRequest(recipe, tmp_path / "out", 60, 1, allow_pickle=allow)
    front = search(request, stub(tmp_path, [record(0, 1.0, 1.0, 1.0)], facts))
    assert ("--allow-pickle" in front.bundles[0].command) == allow


def test_one_search_at_a_time(facts: SourceFacts, recipe: Recipe, tmp_path: Path) -> None:
    (out := tmp_path / "out").mkdir()
    handle = lock(out)
    assert handle is not None
    with pytest.raises(UsageError, match="another search runs there"):
        search(SearchRequest(recipe, out, 60, 1), stub(tmp_path, [], facts))


def test_passes_are_chosen_by_the_search(tmp_path: Path) -> None:
    recipe = make_recipe("test", source="x", passes=[{"kind": "float16"}])
    with pytest.raises(UsageError, match="take `passes` out of the recipe"):
        search(SearchRequest(recipe, tmp_path / "out", 1), lambda: pytest.fail("a crew was hired"))
