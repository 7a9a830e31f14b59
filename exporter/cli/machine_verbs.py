"""`headway targets`, `headway cache` and `headway demo`: what this machine can do and keeps, and one model on the whole way."""

import gc
from pathlib import Path
from typing import Annotated

import typer

from .. import api
from . import options as o
from .progress import progress
from .shared import console, print_json

_DemoOut = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Directory for the bundles.", rich_help_panel=o.OUTPUT)
]
_Cache = Annotated[
    Path,
    typer.Option("--cache", metavar="DIR", help="Directory for downloads.", rich_help_panel=o.SOURCE),
]
_Clear = Annotated[bool, typer.Option("--clear", help="Remove all of it.", rich_help_panel=o.OUTPUT)]
_DemoForce = Annotated[
    bool, typer.Option("--force", "-f", help="Make bundles again that are there.", rich_help_panel=o.OUTPUT)
]


def targets(as_json: o.Json = False) -> None:
    """List the targets, and what this machine can build and run."""
    with api.needs("export"):
        from .machine import states
        from .tables import target_notes, targets_table
    found = states()
    if as_json:
        print_json([state.to_json() for state in found])
        return
    console().print(targets_table(found))
    for note in target_notes(found):
        console().print(note, soft_wrap=True)


def cache(work: o.Work = None, clear: _Clear = False, as_json: o.Json = False) -> None:
    """Show what compressions keep for later runs, or clear it."""
    with api.needs("export"):
        from ..compress.work import Work, default_folder
        from .tables import cache_table
    kept = Work(work or default_folder())
    if clear:
        freed = kept.clear()
        if as_json:
            print_json({"folder": str(kept.folder), "freed_bytes": freed})
        else:
            console().print(f"{kept.folder}: {freed / 1e6:,.1f} MB cleared", soft_wrap=True)
        return
    entries = kept.entries()
    if as_json:
        print_json({"folder": str(kept.folder), "entries": [e.to_json() for e in entries]})
        return
    console().print(cache_table(kept.folder, entries))


def demo(
    out: _DemoOut = Path("build/minilm"),
    cache: _Cache = Path(".cache/models"),
    force: _DemoForce = False,
    quiet: o.Quiet = False,
) -> None:
    """Export, quantize, cut and measure a real model (all-MiniLM-L6-v2), in one table.

    Downloads 90 MB once and takes a few minutes. Bundles that are there are kept, so that it can be interrupted.
    """
    gc.enable()  # a compression makes and drops many graphs, which are full of cycles
    with api.needs("export"):
        from .demo import run_demo
    run_demo(out, cache, force=force, console=None if quiet else console(), progress=lambda n: progress(n, quiet))
