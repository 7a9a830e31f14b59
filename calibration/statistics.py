"""Hold what was observed of a model's activations; save it and load it for the same model."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SourceError
from .histogram import Histogram, Method

SCHEMA_VERSION = 2


@dataclass
class Observation:
    """One value over all tokens of the text, without padding. A value without a token axis has a row per text.

    `channel_low` and `channel_high` float32 `[channels]`: minimum and maximum along the last axis. Where asked for: `moment`
    float32 `[channels, channels]` and `mean` float32 `[channels]`, the means of `x xᵀ` and of x over tokens, and `sample`
    float32 `[at most 256, channels]`, tokens drawn at random.
    """

    histogram: Histogram
    channel_low: np.ndarray
    channel_high: np.ndarray
    moment: np.ndarray | None = None
    mean: np.ndarray | None = None
    sample: np.ndarray | None = None

    def range(
        self, method: Method = "min-max", *, percentile: float = 99.999, bits: int = 8, symmetric: bool = False
    ) -> tuple[float, float]:
        """Return the lowest and the highest number to represent, as `Histogram.range` finds them."""
        return self.histogram.range(method, percentile=percentile, bits=bits, symmetric=symmetric)


@dataclass
class Observations:
    """Observations by canonical value name, with fingerprints of model and text, the seed, and counts of texts and tokens."""

    source: str
    text: str
    seed: int
    samples: int
    tokens: int
    values: dict[str, Observation] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Return what the observations were made of, as it is saved."""
        names = ("source", "text", "seed", "samples", "tokens")
        return {"schema_version": SCHEMA_VERSION, **{n: getattr(self, n) for n in names}}

    def save(self, stem: Path) -> None:
        """Write `stem.safetensors` and `stem.json`."""
        from safetensors.numpy import save_file

        arrays: dict[str, np.ndarray] = {}
        bounds: dict[str, Any] = {}
        for name, o in self.values.items():
            arrays[f"counts/{name}"] = np.ascontiguousarray(o.histogram.counts)
            arrays |= {
                f"{k}/{name}": np.ascontiguousarray(a)
                for k in ("channel_low", "channel_high", "moment", "mean", "sample")
                if (a := getattr(o, k)) is not None
            }
            bounds[name] = {"exponent": o.histogram.exponent, "low": o.histogram.low, "high": o.histogram.high}
        save_file(arrays, stem.with_suffix(".safetensors"))
        text = json.dumps({**self.describe(), "values": bounds}, indent=2) + "\n"
        stem.with_suffix(".json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, stem: Path, *, source: str) -> "Observations":
        """Read what `save` wrote; SourceError where it is unreadable, or of another version or another model."""
        from safetensors.numpy import load_file

        try:
            described = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
            arrays = load_file(stem.with_suffix(".safetensors"))
        except Exception as error:  # safetensors raises its own kinds
            raise SourceError(f"{stem}: what calibration found cannot be read ({error}); calibrate again") from error
        if not isinstance(described, dict) or described.pop("schema_version", None) != SCHEMA_VERSION:
            raise SourceError(f"{stem}: written by another version; calibrate again")
        if described.get("source") != source:
            raise SourceError(f"{stem}: found on another model (its fingerprint differs); calibrate again")
        try:
            bounds = described.pop("values")
            values = {
                name: Observation(
                    Histogram(**b, counts=arrays[f"counts/{name}"]),
                    arrays[f"channel_low/{name}"],
                    arrays[f"channel_high/{name}"],
                    arrays.get(f"moment/{name}"),
                    arrays.get(f"mean/{name}"),
                    arrays.get(f"sample/{name}"),
                )
                for name, b in bounds.items()
            }
            return cls(**described, values=values)
        except (KeyError, TypeError) as error:
            raise SourceError(f"{stem}: a field is missing or unknown ({error}); calibrate again") from error
