"""`headway tokenizer`: a bundle's tokenizer for where there is no Python."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ...errors import UsageError
from .shared import Json, Quiet, console, needs_export, print_json


def tokenizer(
    bundle: Annotated[Path, typer.Argument(help="Directory of a bundle.")],
    out: Annotated[Path, typer.Option("--out", help="Directory to write; it must not exist.")],
    target: Annotated[
        Literal["android", "ios", "graph"],
        typer.Option("--for", help="A C++ reader with bindings for Kotlin or Swift, or a graph from text to ids."),
    ],
    accept: Annotated[
        list[str] | None,
        typer.Option("--accept", help="graph: class of text in which other ids are borne; may be repeated."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write BUNDLE's tokenizer for a device, its token ids compared with the bundle's own."""
    from ..publish.staging import staged

    if accept and target != "graph":
        raise UsageError(f"--accept goes with --for graph; the reader for {target} gives the same ids on all text")
    with staged(out, force=False) as folder:
        if target == "graph":
            with needs_export():
                from ..tokenizer.in_graph import write_in_graph

                written = write_in_graph(bundle, folder, accept or ())
        else:
            from ..tokenizer.reader import write_reader

            written = write_reader(bundle, folder, target)
        sizes = {path.name: path.stat().st_size for path in written}
    if as_json:
        print_json({"path": str(out), "files": sizes})
    elif not quiet:
        for name, size in sizes.items():
            console().print(f"{size:>9,}  {out / name}", soft_wrap=True)
