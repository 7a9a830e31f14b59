"""Say where a search runs: in this process, in several of this machine, or on a cluster with a front for each kind of nodes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ...bulk.on_ray import connect
from ..compress.work import default_folder
from .crew import own_crew
from .ray_nodes import PREFIX, chosen_labels, own_label
from .run_search import Hire, SearchRequest


def crews_for(
    request: SearchRequest,
    step: Callable[..., None],
    *,
    workers: int | None = None,
    ray: str | None = None,
    nodes: Sequence[str] = (),
    work: Path | None = None,
    allow_pickle: bool = False,
) -> Iterator[tuple[SearchRequest, Hire]]:
    """Yield searches, each with what makes its trials; where there are several kinds of `nodes`, each in a folder of its own.

    They share the minutes and the trials that were asked for. TargetError where no cluster answers at the address `ray`, or where no
    node of it carries a label.
    """
    recipe = request.recipe
    if ray is None and (workers or 1) == 1:
        yield request, partial(own_crew, recipe, work=work, allow_pickle=allow_pickle, step=step)
        return
    from ray import nodes as all_nodes

    from .ray_crew import ray_crew

    here = own_label()
    connect(ray or "local", processors=workers, resources={f"{PREFIX}{here}": 1})
    work = work or (default_folder() if ray is None else None)
    asked = nodes or ([here] if ray in (None, "local") else [])
    labels = chosen_labels(asked, all_nodes())
    for label in labels:
        out = request.out / label if len(labels) > 1 else request.out
        trials = None if request.trials is None else -(-request.trials // len(labels))
        part = replace(
            request, out=out, minutes=request.minutes / len(labels), trials=trials, node=label if ray else ""
        )
        yield (
            part,
            partial(
                ray_crew, recipe, label, workers=workers, folder=out, work=work, allow_pickle=allow_pickle, step=step
            ),
        )
