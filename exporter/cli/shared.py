"""What the commands of several modules share: options, and how they print. Needs nothing heavy."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import TargetError

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of every contestant.")]


@contextmanager
def needs_export() -> Iterator[None]:
    """A missing heavy library is named with the extra that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise TargetError(f"this needs {error.name}, which is not installed: pip install 'headway[export]'") from error


def console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False))


def print_paths(paths: Iterable[Path]) -> None:
    """One a line, never broken."""
    for path in paths:
        console().print(str(path), soft_wrap=True)


@contextmanager
def progress(total: int | None, hidden: bool) -> Iterator[Callable[..., None]]:
    """A bar with an ETA on standard error; the yielded function names the step that begins."""
    if hidden:
        yield lambda *_args, **_more: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=total)
        begun, current = 0, ""

        def step(name: str, *, of: int | None = None, at: float | None = None) -> None:
            nonlocal begun, current
            named = name.split(",")[0]
            if of is not None and total is not None and named != current:  # a long step has a bar of its own
                bar.reset(task, total=of)
                begun = 0
            current = named
            bar.update(task, description=name, completed=begun if at is None else at, total=of or total)
            begun += 1

        yield step
