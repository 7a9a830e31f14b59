"""`headway search`: find the bundles of a source that nothing beats in quality, latency and size."""

import gc
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import GateError, UsageError
from .. import api
from . import options as o
from .progress import progress
from .shared import check_installed, console, print_json, print_paths, read_shapes

if TYPE_CHECKING:
    from ..recipe.recipe import Recipe
    from ..search.front_file import FrontFile
    from ..search.run_search import Hire, SearchRequest

_Data = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        "-d",
        metavar="FILE",
        help=f"Text like production's: {o.FORMATS}. A column of labels is used where there is one. Repeatable, a file for each domain.",
        rich_help_panel=o.TEXT,
    ),
]
_Minutes = Annotated[
    float,
    typer.Option(
        "--minutes", min=0.0, metavar="N", help="Minutes after which no trial begins any more.", rich_help_panel=o.GOAL
    ),
]
_Trials = Annotated[
    int | None,
    typer.Option("--trials", min=1, metavar="N", help="Trials to make at most.", rich_help_panel=o.GOAL),
]
_Seed = Annotated[
    int | None,
    typer.Option(
        "--seed", min=0, metavar="N", help="Seed of every random choice; 0 where not given.", rich_help_panel=o.GOAL
    ),
]
_MaxDrop = Annotated[
    float | None,
    typer.Option(
        "--max-drop",
        metavar="POINTS",
        help="Points of quality that a bundle may lose; 10 where neither this nor a recipe says.",
        rich_help_panel=o.GOAL,
    ),
]
_Memory = Annotated[
    bool,
    typer.Option("--memory", help="Memory of a process that answers is an objective too.", rich_help_panel=o.GOAL),
]
_Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Directory of the front: bundles, front.json, front.html. A search that was stopped goes on there.",
        rich_help_panel=o.OUTPUT,
    ),
]
_Force = Annotated[
    bool, typer.Option("--force", "-f", help="Begin anew where a search lies at --out.", rich_help_panel=o.OUTPUT)
]
_Samples = Annotated[
    int | None,
    typer.Option(
        "--samples", min=1, metavar="N", help="Texts to learn from; 512 where not given.", rich_help_panel=o.TEXT
    ),
]
_Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, metavar="N", help="Threads of each model; 1 where not given.", rich_help_panel=o.MEASURE
    ),
]

_Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="Trials made at once, each in a process of its own; 1, or as many as a cluster has processors.",
        rich_help_panel=o.MEASURE,
    ),
]
_Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Ray cluster to search on, as auto or ray://host:10001; SOURCE, --data and --out have to be there on all nodes.",
        rich_help_panel=o.MEASURE,
    ),
]
_Node = Annotated[
    list[str] | None,
    typer.Option(
        "--node",
        metavar="LABEL",
        help="Kind of nodes to measure on, as x86-avx512 for those with the resource headway:x86-avx512; repeatable, a front for each.",
        rich_help_panel=o.MEASURE,
    ),
]

_MOST_LOST = 10.0


def search(
    source: o.OptionalSource = None,
    *,
    data: _Data = None,
    column: o.Column = None,
    samples: _Samples = None,
    recipe: o.Recipe = None,
    minutes: _Minutes = 30.0,
    trials: _Trials = None,
    seed: _Seed = None,
    max_drop: _MaxDrop = None,
    memory: _Memory = False,
    out: _Out,
    force: _Force = False,
    work: o.Work = None,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
    target: o.Target = None,
    kernels: o.Kernels = None,
    shape: o.Shape = None,
    threads: _Threads = None,
    workers: _Workers = None,
    ray: _Ray = None,
    node: _Node = None,
    task: o.Task = None,
    adapter: o.Adapters = None,
    allow_pickle: o.Pickle = False,
) -> None:
    """Search the bundles of SOURCE that nothing beats in quality, latency and size.

    Each trial cuts, trims, recovers and quantizes in another way. A recipe says under `search` what may be tried.
    """
    _check_libraries(workers, ray, node)
    if source is None and recipe is None:
        raise UsageError("give a SOURCE, or a --recipe that names one")
    keys: dict[str, Any] = {
        "task": task,
        "adapters": adapter or None,
        "data": data or None,
        "column": column,
        "target": target,
    }
    resolved = api.resolve_recipe(source, recipe, kernels=kernels, **keys)
    work_keys = {"shapes": read_shapes(shape) or None, "threads": threads}
    resolved = _with_options(resolved, max_drop, {"samples": samples, "seed": seed}, work_keys)
    if resolved.data is None:
        raise UsageError("a search needs text like production's: give --data")
    with api.needs("export"):
        from ..search.run_search import SearchRequest
        from ..search.where import crews_for
    request = SearchRequest(resolved, out, minutes, trials, force=force, rss=memory, allow_pickle=allow_pickle)
    gc.enable()  # graphs are full of cycles; a search makes and drops many, with their weights
    with progress(None, quiet or as_json) as step:
        crews = crews_for(
            request, step, workers=workers, ray=ray, nodes=node or [], work=work, allow_pickle=allow_pickle
        )
        fronts, empty = _fronts_of(crews, step)
    _print(fronts, as_json=as_json, quiet=quiet, several=len(fronts) + len(empty) > 1)
    if empty:
        raise empty[0]


def _fronts_of(
    crews: Iterable[tuple["SearchRequest", "Hire"]], step: Callable[..., None]
) -> tuple[list[tuple[Path, "FrontFile"]], list[GateError]]:
    """Run all searches; return the fronts with their folders, and an error for each search that ended without one."""
    from ..search.run_search import search as run

    fronts, empty = [], []
    for part, hire in crews:
        try:
            fronts.append((part.out, run(part, hire, step)))
        except GateError as error:  # of one kind of nodes; the others may have a front
            empty.append(error)
    return fronts, empty


def _check_libraries(workers: int | None, ray: str | None, node: list[str] | None) -> None:
    """Raise TargetError where a library is missing, UsageError where nodes are named of no cluster."""
    if node and ray is None:
        raise UsageError("--node names nodes of a cluster: give --ray with it")
    with api.needs("search"):
        check_installed("optuna", *(["ray"] if ray is not None or (workers or 1) > 1 else []))


def _print(fronts: list[tuple[Path, "FrontFile"]], *, as_json: bool, quiet: bool, several: bool) -> None:
    from ..search.front_page import PAGE

    if not fronts:
        return
    if as_json:
        found = [asdict(front) for _, front in fronts]
        print_json(found if several else found[0])
    elif not quiet:
        for place, front in fronts:
            console().print(front_table(front))
            print_paths([place / PAGE])


def _with_options(
    recipe: "Recipe", max_drop: float | None, calibration: Mapping[str, Any], work: Mapping[str, Any]
) -> "Recipe":
    """Return a recipe with the options that were given, those that are not None, in the place of its own."""
    from ..recipe.recipe import Calibration, Work, make_recipe

    values = {name: getattr(recipe, name) for name in recipe.model_fields_set}
    if max_drop is not None or "max_drop" not in values:
        values["max_drop"] = _MOST_LOST if max_drop is None else max_drop
    for name, kind, given in (("calibration", Calibration, calibration), ("work", Work, work)):
        new = {key: value for key, value in given.items() if value is not None}
        if new:
            values[name] = kind(**(getattr(recipe, name).model_dump() | new))
    return make_recipe("options", **values)


def front_table(front: "FrontFile") -> Any:
    """Return the bundles of a front as a table, the fastest first."""
    from rich.table import Table

    title = f"front of {len(front.bundles)} bundles, {sum(front.trials.values())} trials"
    table = Table(title=title, title_justify="left", header_style="bold")
    for place, head in enumerate(("bundle", "ms", "MB", front.metric, "points lost", "merit", "what was done")):
        table.add_column(head, justify="right" if 0 < place < 6 else "left", overflow="fold")
    source = front.source
    table.add_row("source", f"{source.ms:.2f}", f"{source.mb:.1f}", f"{source.quality:.2f}", "0.00", "1.00", "")
    for bundle in front.bundles:
        m = bundle.measured
        lost = f"{m.lost:.2f} ({m.lost_low:.2f} to {m.lost_high:.2f})"
        table.add_row(
            bundle.name, f"{m.ms:.2f}", f"{m.mb:.1f}", f"{m.quality:.2f}", lost, f"{bundle.merit:.2f}", bundle.what
        )
    return table
