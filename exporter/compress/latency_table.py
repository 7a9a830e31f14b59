"""Hold a latency table: what heads, neurons and ranks of a model cost on a machine, how well that is known, and when it was measured."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from .stopwatch import Workload

SCHEMA_VERSION = 3
_LEVELS = ("heads", "neurons", "attention_rank", "neuron_rank")


@dataclass
class LatencyTable:
    """Costs in milliseconds. `full` is the whole model's, `rest` that of all but attentions and feed-forwards.

    `heads` and `neurons` give the cost of an attention with so many heads, and of a feed-forward so wide. `attention_rank` and
    `neuron_rank` give the cost of the uncut part with all its weights split at that rank. `noise` is the widest half interval of a
    measurement, as a part of the whole model's latency. `load` is the machine's at the end, `measured_at` a time in ISO 8601.
    """

    target: str
    workload: Workload
    full: float
    rest: float
    heads: dict[int, float] = field(default_factory=dict)
    neurons: dict[int, float] = field(default_factory=dict)
    attention_rank: dict[int, float] = field(default_factory=dict)
    neuron_rank: dict[int, float] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    noise: float = 0.0
    load: float | None = None
    measured_at: str = ""

    def attention(self, heads: float) -> float:
        """Return the cost of an attention with so many heads."""
        return _between(self.heads, heads)

    def feed_forward(self, width: float) -> float:
        """Return the cost of a feed-forward so wide."""
        return _between(self.neurons, width)

    @property
    def age_days(self) -> int:
        """Whole days since the table was measured; 0 where that is not known."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.measured_at)).days if self.measured_at else 0

    @property
    def digest(self) -> str:
        """sha256 of the content: two searches that quote the same decided by the same figures."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain numbers, which `from_json` reads."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "LatencyTable":
        """Return the table that `to_json` wrote. Raises ValueError, KeyError or TypeError where the content is damaged."""
        values = {k: v for k, v in raw.items() if k != "schema_version"}
        for name in _LEVELS:
            values[name] = {int(k): float(v) for k, v in values[name].items()}
        shapes = tuple((int(b), int(n)) for b, n in values["workload"]["shapes"])
        values["workload"] = Workload(shapes, int(values["workload"]["threads"]))
        table = cls(**values)
        if table.age_days < 0:
            raise ValueError(f"measured at {table.measured_at}, which is yet to come")
        return table


def rising(levels: Mapping[int, float], half_widths: Mapping[int, float]) -> dict[int, float]:
    """Return the costs nearest to those measured that never fall as levels rise: least squares, weighted by what is known.

    `half_widths` are half the intervals of the measurements. Source: isotonic regression by pooling adjacent violators.
    """
    from scipy.optimize import isotonic_regression

    if not levels:
        return {}
    ordered = sorted(levels)
    widths = np.array([half_widths[n] for n in ordered])
    weights = 1 / np.square(np.maximum(widths, 1e-6))
    fitted = isotonic_regression([levels[n] for n in ordered], weights=weights).x
    return dict(zip(ordered, map(float, fitted), strict=True))


def _between(table: Mapping[int, float], level: float) -> float:
    """Interpolate linearly between measured levels. Costs never fall as levels rise."""
    levels = sorted(table)
    return float(np.interp(level, levels, np.maximum.accumulate([table[n] for n in levels])))
