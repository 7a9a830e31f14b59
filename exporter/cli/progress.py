"""Show how far a command is: one bar for all its stages, one for the stage; without a terminal one line a stage."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..recipe.recipe import Recipe

_STEPS = 7
"""Stages of an export without passes: `export.STEPS`, which is imported with torch, when the bar is there."""


class Stages:
    """Count what is reported. Called with a name alone, the next stage begins.

    With `of`, a part of the stage does, named `series, detail`: the parts of one series have one bar, which `at` parts fill, or as
    many as began before. `of` is 0 where their number is not known.
    """

    def __init__(self, total: int | None):
        self.total = total
        self.number = 0
        self.stage = "starting"
        self.series: str | None = None
        self.done = 0.0
        self.of: int | None = None
        self._begun = 0

    def report(self, name: str, of: int | None, at: float | None) -> bool:
        """Take what was reported; return whether another stage or another series of parts begins."""
        if of is None:
            self.number += 1
            self.total = max(self.total, self.number) if self.total is not None else None
            self.stage, self.series, self.done, self.of, self._begun = name, None, 0.0, None, 0
            return True
        series = name.split(",")[0]
        begins = series != self.series
        if begins:
            self.series, self._begun = series, 0
        self.done, self.of = at if at is not None else self._begun, of or None
        self._begun += 1
        return begins

    @property
    def place(self) -> str:
        """Which stage of how many."""
        return f"stage {self.number} of {self.total}" if self.total is not None else f"stage {self.number}"


def stages_of(recipe: "Recipe") -> int:
    """Return how many stages an export of a recipe has: passes bring one each, and one to measure the source."""
    return _STEPS + len(recipe.passes) + bool(recipe.passes)


@contextmanager
def progress(total: int | None, hidden: bool) -> Iterator[Callable[..., None]]:
    """Show progress on standard error; the yielded function names the stage that begins, or a part of it (see `Stages`)."""
    if hidden:
        yield lambda *_args, **_more: None
        return
    stages = Stages(total)
    if not sys.stderr.isatty():
        yield _lines(stages)
        return
    with _bars() as bars:
        yield _shown(bars, stages)


def _lines(stages: Stages) -> Callable[..., None]:
    def step(name: str, *, of: int | None = None, at: float | None = None) -> None:
        stages.report(name, of, at)
        if of is None:
            print(f"headway: {stages.place}: {name}", file=sys.stderr, flush=True)

    return step


def _bars() -> Any:
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
        TextColumn("{task.description:<32}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[remaining]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _shown(bars: Any, stages: Stages) -> Callable[..., None]:
    whole = bars.add_task("starting", total=stages.total, remaining="", visible=stages.total is not None)
    part = bars.add_task("", total=None, remaining="", visible=False)

    def step(name: str, *, of: int | None = None, at: float | None = None) -> None:
        begins = stages.report(name, of, at)
        if of is None:
            begun = max(stages.number - 1, 0)
            bars.update(whole, description=f"{stages.place}: {name}", completed=begun, total=stages.total, visible=True)
            bars.update(part, visible=False)
            return
        if begins:  # its time left is that of its own parts
            bars.reset(part, total=stages.of, visible=True)
        remaining = "left:" if stages.of else ""
        bars.update(part, description=f"  {name}", completed=stages.done, total=stages.of, remaining=remaining)

    return step
