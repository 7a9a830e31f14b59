"""`headway package` and `tokenizer`: a bundle for an app, or where there is no Python."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ...errors import UsageError
from .. import api
from . import options as o
from .shared import console, print_json

_Platform = Annotated[
    Literal["android", "ios", "web", "triton", "container", "lambda"],
    typer.Option(
        "--for",
        help="What the app runs on. triton: a model repository; container: a server; lambda: a function.",
        rich_help_panel=o.TARGET,
    ),
]
_PackageOut = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Directory of the package.", rich_help_panel=o.OUTPUT)
]
_MaxMb = Annotated[
    float | None,
    typer.Option(
        "--max-mb", metavar="MB", help="Largest size of all files together; a gate.", rich_help_panel=o.OUTPUT
    ),
]
_TokenizerFor = Annotated[
    Literal["android", "ios", "graph"],
    typer.Option(
        "--for",
        help="A C++ reader with bindings for Kotlin or Swift, or a graph from text to ids.",
        rich_help_panel=o.TARGET,
    ),
]
_Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        metavar="CLASS",
        help="graph: class of text in which other ids are accepted; repeatable.",
        rich_help_panel=o.TARGET,
    ),
]


def package(
    bundle: o.Bundle,
    platform: _Platform,
    out: _PackageOut,
    max_mb: _MaxMb = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Lay BUNDLE out for an app or a server: model, tokenizer, license, checksums and the code that runs it."""
    with api.needs("export"):
        from ..package.packager import package as run
        from ..package.server_package import package_for_server
    if platform == "triton" or platform == "container" or platform == "lambda":
        if max_mb is not None:
            raise UsageError("--max-mb is for apps; leave it out")
        packaged = package_for_server(bundle, platform, out, force=force)
    else:
        packaged = run(bundle, platform, out, max_mb=max_mb, force=force)
    if as_json:
        print_json({"path": str(packaged.path), "bytes": packaged.nbytes, "files": packaged.files})
    elif not quiet:
        for name, size in sorted(packaged.files.items(), key=lambda item: -item[1]):
            console().print(f"{size / 1e6:9.3f} MB  {name}", soft_wrap=True)
        console().print(f"{packaged.nbytes / 1e6:9.3f} MB  {packaged.path}", soft_wrap=True)


def tokenizer(
    bundle: o.Bundle,
    target: _TokenizerFor,
    out: o.NewOut,
    accept: _Accept = None,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Write BUNDLE's tokenizer for a device, its token ids compared with the bundle's own."""
    from ..publish.staging import staged

    if accept and target != "graph":
        raise UsageError(
            f"--accept goes with --for graph; the reader for {target} gives the same ids on all text: leave it out"
        )
    if out.exists():
        raise UsageError(f"{out} exists; remove it, or give another --out")
    with staged(out, force=False) as folder:
        if target == "graph":
            with api.needs("export"):
                from ..tokenizer.in_graph import write_in_graph

                files = write_in_graph(bundle, folder, accept or ())
        else:
            from ..tokenizer.reader import write_reader

            files = write_reader(bundle, folder, target)
        sizes = {path.name: path.stat().st_size for path in files}
    if as_json:
        print_json({"path": str(out), "files": sizes})
    elif not quiet:
        for name, size in sizes.items():
            console().print(f"{size:>9,}  {out / name}", soft_wrap=True)
