"""`headway kernels`: what concerns the kernels themselves, not a model."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import TargetError, UsageError
from .shared import Json, Quiet, Threads, console, needs_export, print_json, progress

kernels_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Build and measure the custom kernels.")


@kernels_app.command("build")
def build(
    out: Annotated[Path, typer.Option("--out", help="Directory to write; it must not exist.")],
    arch: Annotated[
        list[str] | None, typer.Option("--arch", help="As sm_80,sm_90; may be repeated. All where not given.")
    ] = None,
    head_dim: Annotated[
        list[int] | None,
        typer.Option("--head-dim", help="Width of a head; may be repeated. 32 and 64 where not given."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compile the GPU kernels ahead of time to PTX and cubin; no GPU is needed."""
    try:
        from ...kernels.triton import build as builder
    except ModuleNotFoundError as error:
        raise TargetError(f"this needs {error.name}, which is not installed: pip install 'headway[gpu]'") from error
    from ..publish.staging import staged

    if out.exists():
        raise UsageError(f"{out} exists; remove it, or give another --out")
    architectures = _architectures(arch) or list(builder.ARCHITECTURES)
    with progress(1, quiet or as_json) as step, staged(out, force=False) as folder:
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


@kernels_app.command("bench")
def bench(
    threads: Threads = 1,
    rounds: Annotated[int, typer.Option("--rounds", min=5, help="Paired rounds of each case.")] = 30,
    as_json: Json = False,
) -> None:
    """Time the CPU kernels beside ONNX Runtime's operators and torch."""

    with needs_export():
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
    """One line a kernel, from the least to the most among the architectures."""
    from rich.table import Column, Table

    table = Table(Column("kernel", no_wrap=True), "shared KiB", "registers", "spilled bytes", box=None)
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in manifest["kernels"]:
        rows.setdefault(row["name"], []).append(row)
    for name, found in rows.items():
        columns = (
            [row["shared_bytes"] / 1024 for row in found],
            [row["registers"] for row in found],
            [row["spill_bytes"] for row in found],
        )
        spans = [f"{min(c):.0f}" + (f" to {max(c):.0f}" if max(c) != min(c) else "") for c in columns]
        table.add_row(name, *spans)
    return table
