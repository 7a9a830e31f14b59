"""`headway kernels`: build and measure the kernels themselves."""

from typing import Annotated, Any

import typer

from ...errors import TargetError, UsageError
from .. import api
from . import options as o
from .help import CONTEXT, PlainCommand, PlainGroup
from .progress import progress
from .shared import console, print_json

kernels_app = typer.Typer(
    cls=PlainGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=CONTEXT,
    help="Build and measure Headway's own kernels.",
)

_Arch = Annotated[
    list[str] | None,
    typer.Option(
        "--arch", metavar="NAMES", help="As sm_80,sm_90; repeatable. All where not given.", rich_help_panel=o.TARGET
    ),
]
_HeadDim = Annotated[
    list[int] | None,
    typer.Option(
        "--head-dim",
        metavar="N",
        help="Width of a head; repeatable. 32 and 64 where not given.",
        rich_help_panel=o.TARGET,
    ),
]
_KernelRounds = Annotated[
    int,
    typer.Option("--rounds", min=5, metavar="N", help="Paired rounds of each case.", rich_help_panel=o.MEASURE),
]


@kernels_app.command("build", cls=PlainCommand)
def build(
    out: o.NewOut,
    arch: _Arch = None,
    head_dim: _HeadDim = None,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Compile the GPU kernels ahead of time to PTX and cubin; no GPU is needed."""
    with api.needs("gpu"):
        from ...kernels.triton import build as builder
    from ..publish.staging import staged

    if out.exists():
        raise UsageError(f"{out} exists; remove it, or give another --out")
    architectures = _architectures(arch) or list(builder.ARCHITECTURES)
    with progress(None, quiet or as_json) as step, staged(out, force=False) as folder:
        try:
            manifest = builder.build(folder, architectures, head_dim or (32, 64), on_step=step)
        except ValueError as error:
            raise UsageError(str(error)) from error
        except builder.BuildError as error:
            raise TargetError(str(error)) from error
    if as_json:
        print_json(manifest)
    elif not quiet:
        console().print(_table(manifest))
        names = ", ".join(f"sm_{a}" for a in architectures)
        console().print(f"{len(manifest['kernels'])} kernels for {names}: {out}", soft_wrap=True)


@kernels_app.command("bench", cls=PlainCommand)
def bench(threads: o.Threads = 1, rounds: _KernelRounds = 30, as_json: o.Json = False) -> None:
    """Time the CPU kernels beside ONNX Runtime's operators and torch."""
    with api.needs("export"):
        from ...kernels.cpu import MISSING, library_path
        from ...kernels.cpu.bench import measure
        from .tables import kernels_table
    if library_path() is None:
        raise TargetError(MISSING)
    rows = list(measure(threads, rounds))
    if as_json:
        print_json([row.to_json() for row in rows])
    else:
        console().print(kernels_table(rows, threads))


def _architectures(given: list[str] | None) -> list[int]:
    names = [name.strip() for text in given or [] for name in text.split(",")]
    try:
        return sorted({int(name.removeprefix("sm_")) for name in names})
    except ValueError as error:
        raise UsageError(f"--arch {','.join(names)}: compute capabilities are expected, as sm_80,sm_90") from error


def _table(manifest: dict[str, Any]) -> Any:
    """Return a table with one line for each kernel, from the least to the most among the architectures."""
    from rich.table import Column, Table

    table = Table(Column("kernel", no_wrap=True), "shared KiB", "registers", "spilled bytes", box=None)
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in manifest["kernels"]:
        rows.setdefault(row["name"], []).append(row)
    for name, variants in rows.items():
        columns = (
            [row["shared_bytes"] / 1024 for row in variants],
            [row["registers"] for row in variants],
            [row["spill_bytes"] for row in variants],
        )
        spans = [f"{min(c):.0f}" + (f" to {max(c):.0f}" if max(c) != min(c) else "") for c in columns]
        table.add_row(name, *spans)
    return table
