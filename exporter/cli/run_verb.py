"""`headway run`: answer all texts of files, of any size, by a bundle."""

import gc
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ...errors import UsageError
from .. import api
from . import options as o
from .progress import progress
from .shared import check_installed, console, print_json

_STAGES = 3

_Texts = Annotated[
    Path,
    typer.Option(
        "--data",
        "-d",
        metavar="FILE",
        help="Texts to answer: parquet, csv, jsonl, txt, a directory of such files, or one that datasets wrote.",
        rich_help_panel=o.TEXT,
    ),
]
_Column = Annotated[
    str | None,
    typer.Option(
        "--column", metavar="NAME", help="Column that holds the text; found where not given.", rich_help_panel=o.TEXT
    ),
]
_Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt-name", metavar="NAME", help="Prompt of the bundle to put in front of texts.", rich_help_panel=o.TEXT
    ),
]
_Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="PATH",
        help="A .parquet file, or a directory that gets a file for each part.",
        rich_help_panel=o.OUTPUT,
    ),
]
_Dtype = Annotated[
    Literal["float32", "float16", "int8"],
    typer.Option("--dtype", help="How embeddings are stored; int8 with a scale for each.", rich_help_panel=o.OUTPUT),
]
_Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        metavar="N",
        help="Batches computed at once, each by one thread; by default all processors.",
        rich_help_panel=o.MEASURE,
    ),
]
_Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Ray cluster to run on, as auto or ray://host:10001; local starts one here.",
        rich_help_panel=o.MEASURE,
    ),
]


def run(
    bundle: o.Bundle,
    data: _Texts,
    out: _Out,
    column: _Column = None,
    prompt_name: _Prompt = None,
    dtype: _Dtype = "float32",
    threads: _Threads = None,
    ray: _Ray = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Answer the texts of --data by BUNDLE and write rows and answers as parquet.

    Start a stopped run again, and it goes on from its last finished part.
    """
    from ...bulk import shard_run
    from ...bulk.on_ray import compute_on
    from ...serving.server_settings import available_processors

    with api.needs("data"):
        check_installed("pyarrow")
    if ray is not None:
        with api.needs("search"):
            check_installed("ray")
        if threads is not None:
            raise UsageError(
                "--threads is for this machine; on a cluster each processor computes a batch: leave it out"
            )
    gc.enable()  # which the command line turned off: this may run for days
    with progress(_STAGES, quiet or as_json) as step:
        done = shard_run.run(
            bundle,
            data,
            out,
            column=column,
            dtype=dtype,
            prompt_name=prompt_name,
            lanes=threads or available_processors(),
            force=force,
            compute=compute_on(ray) if ray is not None else None,
            step=step,
        )
    if as_json:
        print_json(_record(done))
    elif not quiet:
        for name, value in _record(done).items():
            console().print(f"{name.replace('_', ' '):<18} {value}", soft_wrap=True, highlight=False)


def _record(done: Any) -> dict[str, Any]:
    counts, rate = done.counts, done.texts_per_second
    return {
        "out": str(done.out),
        "rows": counts.rows,
        "texts": counts.texts,
        "truncated": counts.truncated,
        "tokens": counts.tokens,
        "parts": done.shards,
        "parts_kept": done.kept,
        "seconds": round(done.seconds, 1),
        "texts_per_second": round(rate, 1) if rate is not None else None,
    }
