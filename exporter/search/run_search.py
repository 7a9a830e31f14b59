"""Run a search: ask what to try, make the trials, keep the front. See docs/guides/search.md."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...checked import Mismatch, checked
from ...errors import GateError, SourceError, UsageError
from ...json_file import read_json
from ...replaced import held
from ..bench.measure import machine
from ..publish.staging import output_folder
from ..publish.writing import put_text, written
from ..recipe.recipe import Recipe
from ..recipe.search_space import SearchSpace
from .crew import Crew, SourceFacts
from .evaluate import TrialRequest
from .front_file import BUNDLES, FRONT, SCHEMA_VERSION, FrontBundle, FrontFile, FrontSource, merit_of_bundle
from .front_page import PAGE, front_page
from .study import JOURNAL, SearchStudy
from .trial_record import TrialRecord, front_members

PLAN = "search.json"
"""What is searched, and what was measured of the source: another search is refused in its folder."""

_MADE = (JOURNAL, f"{JOURNAL}.lock", FRONT, PAGE, BUNDLES)
"""What a search makes beside its plan. The journal is the first that a new one removes: what is left then is a search without trials."""

_LEFT = (f".{PLAN}.part", ".work", ".measured")
"""What a search that was killed before its first trial may leave."""

Hire = Callable[[], AbstractContextManager[Crew]]


@dataclass(frozen=True)
class SearchRequest:
    """A search of `recipe` into the folder `out`, for so many `minutes` or `trials`, whichever come first.

    `rss`: memory is an objective too. `random`: values are drawn at random, to compare with. `node`: the label of the machines that are
    measured on. `force` begins anew where a search lies. `allow_pickle`: the source is opened so, and by the commands of its bundles.
    """

    recipe: Recipe
    out: Path
    minutes: float
    trials: int | None = None
    force: bool = False
    rss: bool = False
    random: bool = False
    node: str = ""
    allow_pickle: bool = False

    @property
    def bundles(self) -> Path:
        """The folder of bundles."""
        return self.out.resolve() / BUNDLES

    def plan(self) -> dict[str, Any]:
        """Return what makes a search another one."""
        return {
            "schema_version": SCHEMA_VERSION,
            "recipe": self.recipe.model_dump(mode="json"),
            "rss": self.rss,
            "random": self.random,
            "node": self.node,
        }


def search(request: SearchRequest, hire: Hire, step: Callable[..., None] = lambda *_, **__: None) -> FrontFile:
    """Search, and return the front, which lies in the folder with its bundles and its page.

    A search that was stopped goes on. Raises UsageError where the folder holds something else or another search runs there, GateError
    where no trial made a bundle, and whatever makes all trials impossible.
    """
    if request.recipe.passes:
        raise UsageError(
            "a search chooses the passes itself: take `passes` out of the recipe, and say in `search` what to try"
        )
    is_new = not request.out.exists()
    out = output_folder(request.out)
    with held(out, f"{out}: another search runs there: wait for it, or give another --out"):
        plan = _same_plan(request)
        with _cleared_without_facts(out, is_new), hire() as crew:
            facts = crew.facts(_known_facts(plan, request.node))
            with written(out):
                _begin(request, facts, anew=plan is None)
            search = _Search(request, facts, crew, step)
            search.run()
            front = search.front()
    if not front.bundles:
        raise GateError(f"{request.out}: the front is empty: {_why_empty(search.study.records)}")
    return front


class _Search:
    """A search under way."""

    def __init__(self, request: SearchRequest, facts: SourceFacts, crew: Crew, step: Callable[..., None]):
        self.request, self.facts, self.crew, self.step = request, facts, crew, step
        seed = request.recipe.calibration.seed
        space = SearchSpace(**facts.space)
        self.study = SearchStudy(request.out, space, seed, random=request.random)
        self._table = facts.latencies
        self._began, self._before = time.monotonic(), self.study.seconds
        self._running: set[int] = set()

    @property
    def seconds(self) -> float:
        """How long the search has run, all its runs together."""
        return self._before + time.monotonic() - self._began

    def run(self) -> None:
        """Make trials until the time is up, the trials are made, or everything was tried."""
        self._tidy()
        more = True
        while True:
            self._tell_progress()
            while more and len(self._running) < self.crew.size and self._is_time():
                more = self._begin_next()
            if not self._running:
                return
            try:
                record = self.crew.next()
            except KeyboardInterrupt:
                self.study.excuse()
                raise
            self._running.discard(record.number)
            with written(self.request.out):
                self.study.tell(record, self.seconds)
            if record.state == "bundle":
                self._tidy()
            self.front()

    def _is_time(self) -> bool:
        trials = self.request.trials
        if trials is not None and len(self.study.records) + len(self._running) >= trials:
            return False
        return self.seconds < 60 * self.request.minutes

    def _begin_next(self) -> bool:
        asked = self.study.ask()
        if asked is None:
            return False
        number, settings = asked
        known = tuple(self.study.records)
        self.crew.begin(
            TrialRequest(
                number,
                settings,
                known,
                self._table,
                self.facts.factors,
                self.facts.ms,
                self.request.bundles,
                rss=self.request.rss,
            )
        )
        self._running.add(number)
        return True

    def _tell_progress(self) -> None:
        request, records = self.request, self.study.records
        share = self.seconds / max(60 * request.minutes, 1e-9)
        if request.trials is not None:
            share = max(share, len(records) / max(request.trials, 1))
        words = f"{len(records)} trials, {len(front_members(records))} bundles on the front"
        self.step(f"search, {words}", of=1000, at=1000 * min(share, 1.0))

    def _tidy(self) -> None:
        """Remove the bundles that are not on the front, and what killed trials left."""
        members = {_name(record.number) for record in front_members(self.study.records)}
        running = {_name(number) for number in self._running}
        self.request.bundles.mkdir(exist_ok=True)
        for path in self.request.bundles.iterdir():
            of = (
                path.name.split(".")[1] if path.name.startswith(".") else path.name
            )  # .007.new-TOKEN is about to be 007
            if of in members | running:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:  # a training that was stopped
                path.unlink(missing_ok=True)

    def front(self) -> FrontFile:
        """Write what was found so far, as JSON and as a page, and return it."""
        request, facts, records = self.request, self.facts, self.study.records
        source = FrontSource(request.recipe.source, facts.ms, facts.mb, facts.quality)
        bundles = [self._bundle(source, record) for record in front_members(records)]
        front = FrontFile(
            SCHEMA_VERSION,
            source,
            request.recipe.target,
            facts.metric,
            facts.workload,
            facts.texts,
            facts.machine,
            request.node,
            request.recipe.calibration.seed,
            round(self.study.seconds, 1),
            dict(sorted(Counter(record.state for record in records).items())),
            bundles,
        )
        with written(request.out):
            front.write(request.out)
            put_text(request.out / PAGE, front_page(front, records))
        return front

    def _bundle(self, source: FrontSource, record: TrialRecord) -> FrontBundle:
        expected, measured = record.expected, record.measured
        assert measured is not None and expected is not None and expected.lost is not None
        return FrontBundle(
            _name(record.number),
            record.number,
            str(record.what),
            record.settings,
            expected.lost,
            measured,
            merit_of_bundle(source, measured),
            self._command(record),
        )

    def _command(self, record: TrialRecord) -> list[str]:
        recipe = self.request.recipe
        place = self.request.out / BUNDLES / _name(record.number) / "recipe.yaml"
        data = [word for path in recipe.files for word in ("--data", str(path))]
        words = ["headway", "export", recipe.source, "--recipe", str(place), *data, "--out", "again"]
        words += ["--allow-pickle"] if self.request.allow_pickle else []
        return words


def _name(number: int) -> str:
    return f"{number:03d}"


def _why_empty(records: list[TrialRecord]) -> str:
    """Return the reason that most trials have."""
    reasons = Counter(record.why for record in records if record.why)
    if not reasons:
        return "no trial has ended: search for longer (--minutes, --trials)"
    (why, count), *_ = reasons.most_common(1)
    return f"{len(records)} trials made no bundle, {count} of them since {why}"


@contextmanager
def _cleared_without_facts(out: Path, is_new: bool) -> Iterator[None]:
    """Leave nothing in the folder of a search that could not begin, and no folder that it made itself."""
    try:
        yield
    except BaseException:
        if not (out / PLAN).is_file():
            for name in _LEFT:
                with suppress(OSError):
                    _remove(out / name)
            if is_new:
                with suppress(OSError):
                    out.rmdir()
        raise


def _same_plan(request: SearchRequest) -> dict[str, Any] | None:
    """Return the plan that lies in the folder, of this search; None where it begins. Raises UsageError for any other."""
    out, path = request.out, request.out / PLAN
    if not path.is_file():
        present = sorted(p.name for p in out.iterdir() if p.name not in _LEFT)
        if present:
            raise UsageError(f"{out}: holds {present[0]} and no search: give an empty or a new directory as --out")
        return None
    if request.force:
        return None
    stored = read_json(path)
    if {name: stored.get(name) for name in request.plan()} == request.plan():
        return stored
    raise UsageError(
        f"{out}: holds a search of another source, text, space or seed: run that again, give another --out, or --force to begin anew"
    )


def _remove(path: Path) -> None:
    """Remove a file or a folder, where it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _known_facts(plan: dict[str, Any] | None, node: str) -> SourceFacts | None:
    """Return what a plan knows of its source. SourceError where it is damaged, UsageError where another machine than this measured it.

    Nodes of one label count as one machine, this machine has none.
    """
    if plan is None or plan.get("facts") is None:
        return None
    try:
        facts: SourceFacts = checked(SourceFacts, plan["facts"])
        facts.latencies  # noqa: B018 - read now, where a damaged one can be named
    except (Mismatch, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{PLAN}: is damaged ({error}): give --force to begin anew, or another --out") from error
    if not node and facts.machine != machine():
        cpu = facts.machine.get("cpu", "another processor")
        raise UsageError(
            f"{PLAN}: this search measured its latencies on another machine ({cpu}) or with other versions of its libraries: "
            "go on there, give another --out, or --force to begin anew"
        )
    return facts


def _begin(request: SearchRequest, facts: SourceFacts, *, anew: bool) -> None:
    """Keep the plan of a search that can begin. `anew`: what an earlier one made is removed first, and nothing else."""
    for name in _MADE if anew else ():
        _remove(request.out / name)
    put_text(request.out / PLAN, json.dumps(request.plan() | {"facts": asdict(facts)}, indent=2) + "\n")
