"""Hold a source ready for trials: captured, measured and with its text divided, once for each process. Imports torch."""

import copy
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from ...errors import TargetError
from ...scratch import scratch
from ...text import TextEncoder
from ..compress.job import Clock, Job, Outcome, Step
from ..compress.vocabulary_steps import BY_TOKEN
from ..compress.work import Work, default_folder
from ..export import Flow, SourceGraph, begin_passes, capture_graph, read_text
from ..graph.anatomy import Anatomy, read_anatomy
from ..publish.staging import staged
from ..recipe.recipe import Recipe, make_recipe
from ..recipe.search_space import SearchSpace
from ..recipe.targets import TARGETS
from ..recipe.task_fit import fitted_to_task
from ..source.source import open_source
from ..targets.base import check_available
from ..targets.registry import target_of
from .clock import SharedStopwatch
from .trial_settings import TrialSettings, passes_of


@dataclass(frozen=True)
class PreparedSource:
    """A source that trials start from. `first` is the job before any pass, `graph` its graph, `folder` a place for files."""

    flow: Flow
    graph: SourceGraph
    first: Job
    identity: "Future[str]"
    folder: Path
    space: SearchSpace

    @property
    def model(self) -> ir.Model:
        """The whole model, which nothing changes."""
        return self.first.source_model

    @property
    def blocks(self) -> int:
        """The number of its blocks."""
        return len(read_anatomy(self.model).blocks)

    @contextmanager
    def trial(self, settings: TrialSettings, out: Path) -> Iterator[tuple[Flow, Job]]:
        """Yield the flow of a trial and its job; what is published in it becomes `out`, unless something is raised."""
        with staged(out, force=True) as staging:
            yield self.begin(settings, staging, out)

    def begin(self, settings: TrialSettings, staging: Path, out: Path) -> tuple[Flow, Job]:
        """Return the flow of a trial and a job on a copy of the whole model, which write to `staging`.

        Raises UsageError or TargetError where the target does not take what the settings ask for.
        """
        recipe = recipe_of(self.flow.recipe, settings)
        target = target_of(recipe)
        check_available(target)
        shutil.copytree(self.flow.staging, staging, dirs_exist_ok=True)
        flow = replace(self.flow, recipe=recipe, target=target, staging=staging, out=out.resolve(), step=_silent)
        first = self.first
        given = replace(
            first.given,
            recipe=recipe,
            target=target,
            stopwatch=first.given.stopwatch.for_target(target),
            staging=staging,
            out=flow.out,
            step=_silent,
        )
        info = copy.deepcopy(first.encoder.info)
        encoder = TextEncoder(staging / info.file, info)
        outcome = Outcome(self.model.clone(), stages=list(first.outcome.stages[:1]))
        return flow, Job(given, outcome, self.model.clone(), encoder, first.batches)

    def graph_of(self, job: Job) -> SourceGraph:
        """Return the graph that a job's bundle is made with. It lends no weights, so that none are let go."""
        return replace(self.graph, model=job.outcome.model, weights=[], encoder=job.encoder)


@contextmanager
def prepared(
    recipe: Recipe,
    *,
    work: Path | None,
    allow_pickle: bool,
    clock: Clock = SharedStopwatch,
    step: Step = lambda *_, **__: None,
) -> Iterator[PreparedSource]:
    """Yield a source that is ready for trials. Raise as `export` does, and TargetError for a target that cannot be timed here."""
    if TARGETS[recipe.target].device == "gpu":
        raise TargetError(
            f"target {recipe.target}: latency is measured in ONNX Runtime on a CPU, which says nothing of a GPU: search with another "
            "target, or compress with `flops`"
        )
    with scratch() as name:
        folder = Path(name)
        (staging := folder / "source").mkdir()
        step("read the source")
        source = open_source(recipe.source, task=recipe.task, allow_pickle=allow_pickle, adapters=recipe.adapters)
        recipe = fitted_to_task(recipe, source.task)
        space = fitting(recipe.search, source.task)
        whole = recipe_of(recipe, TrialSettings(speedup=2.0, coverage=min(space.vocabulary)))
        target = target_of(whole)
        check_available(target)
        files = read_text(whole, source)
        flow = Flow(whole, target, source, files, staging, folder / "out", step, Work(work or default_folder()))
        with ThreadPoolExecutor(1) as beside:
            identity = beside.submit(getattr, source, "fingerprint")
            graph = capture_graph(flow, beside, every_layer=False)
            first = begin_passes(flow, graph, identity, folder / "timed", clock)
        yield PreparedSource(
            flow, graph, first, identity, folder, fitting(space, source.task, read_anatomy(first.source_model))
        )


def fitting(space: SearchSpace, task: str, anatomy: Anatomy | None = None) -> SearchSpace:
    """Return a space without what a source does not have: blocks to cut, or ids of tokens that mean no more than rows.

    What a recipe asks for by name stays, and is refused where it cannot be done.
    """
    given, changes = space.model_fields_set, {}
    if task in BY_TOKEN and "vocabulary" not in given:
        changes["vocabulary"] = [1.0]
    if anatomy is not None and not any(block.projections for block in anatomy.blocks) and "speedups" not in given:
        changes["speedups"] = [1.0]
    return space.model_copy(update=changes)


def _silent(*_: object, **__: object) -> None:
    """Tell nobody: trials come too fast for their steps to be read."""


def recipe_of(recipe: Recipe, settings: TrialSettings) -> Recipe:
    """Return the recipe of a trial: what was asked for, with the passes of the settings."""
    passes = make_recipe("search", source=recipe.source, passes=passes_of(settings)).passes
    calibration = recipe.calibration.model_copy(update={"choose": True})
    return recipe.model_copy(update={"passes": passes, "calibration": calibration, "search": SearchSpace()})
