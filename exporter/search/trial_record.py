"""Hold what a trial did, as it is recorded and as other trials are told of it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ...checked import checked
from .trial_settings import TrialSettings

State = Literal["bundle", "stopped", "refused", "lost"]


@dataclass(frozen=True)
class Measured:
    """What was measured of a bundle: milliseconds on the workload with their 95 % interval, megabytes, and the points of quality.

    `lost` are points that it has less than its source; quality and loss come from the texts that judge, with their 95 % intervals.
    """

    ms: float
    ms_low: float
    ms_high: float
    mb: float
    quality: float
    quality_low: float
    quality_high: float
    lost: float
    lost_low: float
    lost_high: float
    rss_mb: float | None = None


@dataclass(frozen=True)
class Expected:
    """What is known of a trial's model without building it.

    `ms` is predicted by the latency table, `mb` counted. `off` is how far the cut model's answers to a few texts are from the source's,
    before recovery and quantization. `lost` are the points lost on the texts to choose by; None where the trial was stopped before.
    """

    ms: float
    mb: float
    off: float
    lost: float | None = None


@dataclass(frozen=True)
class TrialRecord:
    """What a trial did and what came of it.

    `state`: "bundle" where one was made, "stopped" where it could not reach the front, "refused" where a pass or a gate refused it, and
    "lost" where its process ended; `why` says it in a sentence. `model` is the digest of the model. `seconds` is how long it took.
    `plain_mb`: megabytes of the model before it was quantized.
    """

    number: int
    settings: dict[str, Any]
    state: State
    why: str = ""
    expected: Expected | None = None
    plain_mb: float = 0.0
    model: str = ""
    measured: Measured | None = None
    seconds: float = 0.0

    @property
    def what(self) -> TrialSettings:
        """The settings of the trial."""
        return TrialSettings.from_json(self.settings)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "TrialRecord":
        """Return the record that `to_json` gave. Raises checked.Mismatch where it is damaged."""
        record: TrialRecord = checked(cls, dict(raw))
        return record


def decides(record: TrialRecord) -> tuple[float, ...] | None:
    """Return what decides whether a bundle is on the front, less of all being better: points lost, milliseconds, megabytes.

    Where it was measured, memory is the fourth. The points are those on the texts to choose by: the texts that judge say how good the
    front is, and choose nothing of it.
    """
    if record.measured is None or record.expected is None or record.expected.lost is None:
        return None
    measured = record.measured
    rss = () if measured.rss_mb is None else (measured.rss_mb,)
    return record.expected.lost, measured.ms, measured.mb, *rss


def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Return whether `a` is nowhere worse than `b`, and somewhere better; less is better."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def front_members(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the bundles that no other beats, the fastest first. Of bundles with equal figures the first one counts."""
    figures = [(figure, record) for record in records if (figure := decides(record)) is not None]
    members = []
    for place, (figure, record) in enumerate(figures):
        if any(beats(other, figure) for other, _ in figures) or any(other == figure for other, _ in figures[:place]):
            continue
        members.append((figure, record))
    return [record for _, record in sorted(members, key=lambda one: (one[0][1], one[1].number))]
