"""`headway report`: one page on bundles, for people who decide and people who look closer."""

from pathlib import Path
from typing import Annotated

import typer

from .. import api
from . import options as o
from .progress import progress
from .shared import print_json, print_paths

_Bundles = Annotated[
    list[Path], typer.Argument(metavar="BUNDLE…", help="Directories of bundles; several are put beside each other.")
]
_Verdict = Annotated[
    list[Path] | None,
    typer.Option(
        "--verdict",
        metavar="DIR",
        help="Folder that headway gate --out wrote, or its gate.json; repeatable. One that lies in a bundle is found.",
        rich_help_panel=o.SOURCE,
    ),
]
_Sensitivity = Annotated[
    list[Path] | None,
    typer.Option(
        "--sensitivity",
        metavar="DIR",
        help="Folder that headway sensitivity wrote, or its sensitivity.json; repeatable.",
        rich_help_panel=o.SOURCE,
    ),
]
_Stored = Annotated[
    bool,
    typer.Option(
        "--stored",
        help="Run nothing: leave the time by operator out, which is profiled now.",
        rich_help_panel=o.MEASURE,
    ),
]
_Save = Annotated[
    bool,
    typer.Option("--save", help="Put the figures of each bundle into its card, as PNG.", rich_help_panel=o.OUTPUT),
]
_Out = Annotated[
    Path,
    typer.Option("--out", "-o", dir_okay=False, metavar="FILE", help="The page.", rich_help_panel=o.OUTPUT),
]


def report(
    bundles: _Bundles,
    verdict: _Verdict = None,
    sensitivity: _Sensitivity = None,
    stored: _Stored = False,
    data: o.Data = None,
    column: o.Column = None,
    out: _Out = Path("report.html"),
    save: _Save = False,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Write a page on BUNDLEs that works offline: verdict, latency, quality, passes, operators.

    Its figures are those that compress, bench --save and gate stored. What was not measured is named.
    """
    with progress(None, quiet or as_json) as step:
        page = api.report(
            bundles,
            out=out,
            verdicts=verdict or (),
            sensitivities=sensitivity or (),
            stored=stored,
            save=save,
            data=data,
            column=column,
            progress=step,
        )
    if as_json:
        print_json({"report": str(page)})
    elif not quiet:
        print_paths([page])
