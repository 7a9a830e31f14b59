"""`headway profile` and `headway sensitivity`: what parts of a model cost, before anything is cut or quantized."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ...errors import TargetError
from .. import api
from . import options as o
from .progress import progress
from .shared import console, print_json, print_paths, read_shapes

_Refresh = Annotated[
    bool,
    typer.Option("--refresh", help="Measure again what is in the cache.", rich_help_panel=o.MEASURE),
]
_Activations = Annotated[
    Literal["per-token", "static", "none"],
    typer.Option("--activations", help="How activations are quantized.", rich_help_panel=o.GOAL),
]
_StudyOut = Annotated[
    Path,
    typer.Option(
        "--out", "-o", file_okay=False, metavar="DIR", help="Directory for JSON and plot.", rich_help_panel=o.OUTPUT
    ),
]
_StudySamples = Annotated[
    int, typer.Option("--samples", min=1, metavar="N", help="Texts to compare on.", rich_help_panel=o.TEXT)
]


def profile(
    source: o.Source,
    shape: o.Shape = None,
    threads: o.Threads = 1,
    refresh: _Refresh = False,
    data: o.Data = None,
    column: o.Column = None,
    target: o.Target = None,
    task: o.Task = None,
    allow_pickle: o.Pickle = False,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Measure what heads, neurons and ranks of SOURCE cost on this machine.

    The figures are kept in the user's cache, where a compression finds them.
    """
    with api.needs("export"):
        from ..compress.profile import profile_model
        from .tables import latency_table
    if target not in (None, "ort"):
        raise TargetError(
            f"target {target!r} cannot be measured here: leave --target out, and ONNX Runtime is measured"
        )
    with progress(None, quiet or as_json) as step:
        table = profile_model(
            source,
            task=task,
            data=data,
            column=column,
            shapes=read_shapes(shape),
            threads=threads,
            refresh=refresh,
            allow_pickle=allow_pickle,
            on_step=step,
        )
    if as_json:
        print_json(table.to_json())
    elif not quiet:
        console().print(latency_table(table))


def sensitivity(
    source: o.Source,
    data: o.TrainingData,
    activations: _Activations = "per-token",
    column: o.Column = None,
    samples: _StudySamples = 128,
    task: o.Task = None,
    allow_pickle: o.Pickle = False,
    out: _StudyOut = Path("sensitivity"),
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Quantize one group of SOURCE's weights at a time to int8, and say what each costs."""
    with api.needs("export"):
        from ..compress.sensitivity import sensitivity_of
        from .tables import sensitivity_table
    with progress(None, quiet or as_json) as step:
        content, files = sensitivity_of(
            source,
            task=task,
            data=data,
            column=column,
            activations=activations,
            samples=samples,
            out=out,
            allow_pickle=allow_pickle,
            on_step=step,
        )
    if as_json:
        print_json(content)
    elif not quiet:
        console().print(sensitivity_table(content))
        print_paths(files)
