"""Make trials on a Ray cluster: each node that works prepares the source once. A lost node costs its running trial alone."""

import platform
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ... import __version__
from ...bulk.on_ray import result_of
from ...errors import TargetError
from ..compress.job import Step
from ..recipe.recipe import Recipe
from .crew import SourceFacts, facts_of, still_true
from .evaluate import TrialRequest, evaluate
from .prepared_source import PreparedSource, prepared
from .ray_stopwatch import Elsewhere
from .trial_record import TrialRecord

_LOOK_SECONDS = 5.0
"""So often it is seen whether a trial waits for a processor that is gone."""


@dataclass(frozen=True)
class CrewPlan:
    """What each process of a crew is told: the source, how it is opened, and where latency is measured."""

    recipe: Recipe
    work: Path
    allow_pickle: bool
    where: Elsewhere


class TrialMaker:
    """Make trials in a process of the cluster; the source is prepared for the first."""

    def __init__(self, plan: CrewPlan):
        self._plan = plan
        self._stack = ExitStack()
        self._source: PreparedSource | None = None

    def versions(self) -> tuple[str, str]:
        """Return the versions of Headway and Python."""
        return own_versions()

    def facts(self, known: SourceFacts | None) -> SourceFacts:
        """Return what is known of the source, measured now where it was not `known`. UsageError where source or text changed since."""
        source = self._prepared()
        return facts_of(source, self._plan.where.table) if known is None else still_true(known, source)

    def make(self, request: TrialRequest) -> TrialRecord:
        """Make a trial."""
        return evaluate(self._prepared(), request)

    def _prepared(self) -> PreparedSource:
        if self._source is None:
            plan = self._plan
            way = prepared(plan.recipe, work=plan.work, allow_pickle=plan.allow_pickle, clock=plan.where.clock)
            self._source = self._stack.enter_context(way)
        return self._source


def own_versions() -> tuple[str, str]:
    """Return the versions of Headway and Python of this process."""
    return __version__, platform.python_version()


class RayCrew:
    """A crew of `size` processes on the cluster that this process is connected to."""

    def __init__(self, ray: Any, plan: CrewPlan, size: int, step: Step, maker: type = TrialMaker):
        self.size = size
        self._maker_of = maker
        self._ray, self._plan, self._step = ray, plan, step
        self._shared = ray.put(plan)
        self._idle: list[Any] = []
        self._running: dict[Any, tuple[Any, TrialRequest]] = {}
        self._started: dict[Any, Any] = {}

    def facts(self, known: SourceFacts | None) -> SourceFacts:
        """Return what is known of the source, measured on the cluster where it was not `known`.

        TargetError where versions differ, UsageError where source or text changed since.
        """
        maker = self._maker()
        found = tuple(result_of(maker.versions.remote()))
        if found != own_versions():
            (theirs, python), (own, own_python) = found, own_versions()
            raise TargetError(
                f"a node has Headway {theirs} on Python {python}, and this is Headway {own} on Python {own_python}: install the same on all"
            )
        self._step("measure the source and its latencies on the cluster")
        facts: SourceFacts = result_of(maker.facts.remote(known))
        self._idle.append(maker)
        return facts

    def begin(self, request: TrialRequest) -> None:
        """Begin a trial where a process is free."""
        maker = self._idle.pop() if self._idle else self._maker()
        self._running[maker.make.remote(request)] = (maker, request)

    def next(self) -> TrialRecord:
        """Wait for the next trial that ends; one whose process or node was lost is "lost"."""
        while not (ended := self._ray.wait(list(self._running), num_returns=1, timeout=_LOOK_SECONDS)[0]):
            self._move_waiting()
        task = ended[0]
        maker, request = self._running.pop(task)
        record = TrialRecord(request.number, request.settings.to_json(), "lost")
        try:
            record = result_of(task, raises_lost=True)
        except self._ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:300]
            record = replace(record, why=f"its process or node was lost: {reason}")
            shutil.rmtree(request.out, ignore_errors=True)
        else:
            self._idle.append(maker)
        return record

    def _move_waiting(self) -> None:
        """Give a trial whose process finds no processor, since a node is gone, to a process that is free."""
        for task, (maker, request) in list(self._running.items()):
            if self._idle and not self._ray.wait([self._started[maker]], timeout=0)[0]:
                del self._running[task]
                self._ray.kill(maker)
                self.begin(request)

    def close(self) -> None:
        """End the processes; what they were making is lost."""
        for maker in self._started:  # one that was refused holds its processor, too
            self._ray.kill(maker)

    def _maker(self) -> Any:
        maker = self._ray.remote(num_cpus=1, max_restarts=0)(self._maker_of).remote(self._shared)
        self._started[maker] = maker.versions.remote()
        return maker


@contextmanager
def ray_crew(
    recipe: Recipe, label: str, *, workers: int | None, folder: Path, work: Path | None, allow_pickle: bool, step: Step
) -> Iterator[RayCrew]:
    """Yield a crew on the cluster that this process is connected to, of as many processes as it has processors, or `workers`.

    `folder` is that of the search, which all nodes see by the same path; so they see `work`, and what the recipe names.
    """
    import ray

    measured = folder.resolve() / ".measured"
    shutil.rmtree(measured, ignore_errors=True)
    where = Elsewhere(label, measured)
    absolute = recipe.model_copy(update=_absolute(recipe))
    plan = CrewPlan(absolute, (work or folder / ".work").resolve(), allow_pickle, where)
    size = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    crew = RayCrew(ray, plan, size, step)
    try:
        yield crew
    finally:
        crew.close()
        shutil.rmtree(measured, ignore_errors=True)


def _absolute(recipe: Recipe) -> dict[str, Any]:
    """Return the places of a recipe as every process finds them, whatever folder it runs in."""
    places: dict[str, Any] = {}
    if Path(recipe.source).exists():
        places["source"] = str(Path(recipe.source).resolve())
    if recipe.files:
        files = [path.resolve() for path in recipe.files]
        places["data"] = files if isinstance(recipe.data, list) else files[0]
    if recipe.adapters:
        places["adapters"] = [str(Path(adapter).resolve()) for adapter in recipe.adapters]
    return places
