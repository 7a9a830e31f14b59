"""`headway pick`: the bundle of a front that meets limits."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .. import api
from . import options as o
from .shared import console, print_json, print_paths

_Front = Annotated[Path, typer.Argument(metavar="DIR", help="Directory that headway search wrote.")]
_MaxMs = Annotated[
    float | None,
    typer.Option("--max-ms", metavar="MS", help="Milliseconds on the workload, at most.", rich_help_panel=o.GOAL),
]
_MaxMb = Annotated[
    float | None, typer.Option("--max-mb", metavar="MB", help="Megabytes, at most.", rich_help_panel=o.GOAL)
]
_MaxMemory = Annotated[
    float | None,
    typer.Option(
        "--max-memory",
        metavar="MB",
        help="Megabytes of memory, at most; where the search measured it.",
        rich_help_panel=o.GOAL,
    ),
]
_MinQuality = Annotated[
    float | None,
    typer.Option("--min-quality", metavar="POINTS", help="Points of quality, at least.", rich_help_panel=o.GOAL),
]
_MaxDrop = Annotated[
    float | None,
    typer.Option("--max-drop", metavar="POINTS", help="Points of quality lost, at most.", rich_help_panel=o.GOAL),
]
_Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="Directory to copy the bundle to.", rich_help_panel=o.OUTPUT),
]


def pick(
    front: _Front,
    max_ms: _MaxMs = None,
    min_quality: _MinQuality = None,
    max_mb: _MaxMb = None,
    max_drop: _MaxDrop = None,
    max_memory: _MaxMemory = None,
    out: _Out = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Pick the bundle of most merit in DIR that meets all limits.

    Where none does, the nearest ones are named, and the exit code is 1.
    """
    with api.needs("export"):
        from ..publish.staging import staged
        from ..search.front_file import Limits, figures_of, folder_of, read_front
        from ..search.front_file import pick as best_of

    found = read_front(front)
    limits = Limits(max_ms, max_mb, max_memory, min_quality, max_drop)
    best = best_of(found, limits, front)
    place = folder_of(front, best)
    if out is not None:
        with staged(out, force=force) as staging:
            shutil.copytree(place, staging, dirs_exist_ok=True)
        place = out
    if as_json:
        print_json(asdict(best) | {"path": str(place)})
    elif not quiet:
        console().print(f"{best.what}: {figures_of(best.measured, found.metric)}", soft_wrap=True)
        print_paths([place])
