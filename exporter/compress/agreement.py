"""Hold what held-out texts say about a model: one agreement for each file of text, of which the worst counts."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ...errors import GateError
from .comparisons import Companion
from .figures import Statistic, combined, interval_of, value_of


@dataclass(frozen=True)
class Agreement:
    """How a model does on the held-out texts of one file, in points from 0 to 100.

    `data` names the file, empty where there is but one. `metric` is what is measured, and `measure` by what. `now` and `then` give the
    points of the model and of its source. `companions` stand beside them, and `meaning` is what they mean for whoever uses the model.
    """

    data: str
    texts: int
    metric: str
    measure: str
    now: Statistic
    then: Statistic
    companions: tuple[Companion, ...]
    meaning: str

    @cached_property
    def points(self) -> float:
        """The points of the model."""
        return value_of(self.now, self.texts)

    @cached_property
    def source(self) -> float:
        """The points of the source."""
        return value_of(self.then, self.texts)

    @property
    def lost(self) -> float:
        """The points that the model has less than its source."""
        return self.source - self.points

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the points, over texts."""
        return interval_of(self.now, self.texts)

    @cached_property
    def lost_interval(self) -> tuple[float, float]:
        """The 95 % interval of what is lost; source and model are compared on the same texts."""
        return interval_of(combined([self.then, self.now], [1.0, -1.0]), self.texts)

    def record(self) -> dict[str, Any]:
        """Return what the manifest says."""
        (low, high), (lost_low, lost_high) = self.interval, self.lost_interval
        return {
            "data": self.data,
            "texts": self.texts,
            "measure": self.measure,
            "points": self.points,
            "low": low,
            "high": high,
            "source": self.source,
            "lost": self.lost,
            "lost_low": lost_low,
            "lost_high": lost_high,
            "companions": [asdict(companion) for companion in self.companions],
            "meaning": self.meaning,
        }


@dataclass(frozen=True)
class Judged:
    """The agreement on each file of text. `points` and `lost` are those of the file where most is lost."""

    files: tuple[Agreement, ...]

    @property
    def worst(self) -> Agreement:
        """The agreement that decides: where most is lost, or where it cannot be told, since an answer is not a number."""
        return max(self.files, key=lambda one: (one.lost != one.lost, one.lost))

    @property
    def points(self) -> float:
        """The points of the model on the worst file."""
        return self.worst.points

    @property
    def lost(self) -> float:
        """The points lost on the worst file."""
        return self.worst.lost

    @property
    def by_file(self) -> dict[str, float]:
        """The points of the model by file; empty where there is but one."""
        return {one.data: one.points for one in self.files} if len(self.files) > 1 else {}

    def record(self) -> dict[str, Any]:
        """Return what the manifest says."""
        return {"worst": self.worst.data, "files": [one.record() for one in self.files]}


def check_drop(judged: Judged, most: float) -> None:
    """Raise GateError where more than `most` points are lost on some file."""
    worst = judged.worst
    if worst.lost <= most:
        return
    where = f" of {worst.data}" if len(judged.files) > 1 else ""
    low, high = worst.lost_interval
    raise GateError(
        f"{worst.lost:.2f} points of {worst.metric} were lost on held-out text{where} ({low:.2f} to {high:.2f}), {most:g} are allowed: "
        "ask for less, add recovery (--recover), or raise `max_drop` (--max-drop) if the loss is acceptable. Nothing was written"
    )
