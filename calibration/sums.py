"""Count activations: running sums of one worker, which merge exactly in any order."""

from collections.abc import Sequence

import numpy as np

from .feed import TokenizedText, real_rows
from .histogram import Histogram
from .moments import Moments
from .sample import Sample, token_keys
from .statistics import Observation


class NotFinite(Exception):
    """An activation that is NaN or infinite: of which value, on which text."""

    def __init__(self, name: str, text: TokenizedText, what: str):
        super().__init__(name)
        self.name, self.text, self.what = name, text, what


class Sums:
    """Running statistics of one worker; they can be pickled, and merged in any order."""

    def __init__(self, names: Sequence[str], moments: frozenset[str] = frozenset(), *, counted: bool = True):
        self.counted = counted
        self.samples = 0
        self.tokens = 0
        self.histograms = {n: Histogram() for n in names}
        self.low: dict[str, np.ndarray] = {}
        self.high: dict[str, np.ndarray] = {}
        self.moments: dict[str, Moments | None] = dict.fromkeys(sorted(moments))
        self.drawn: dict[str, Sample | None] = dict.fromkeys(sorted(moments))

    def add(self, texts: Sequence[TokenizedText], mask: np.ndarray, values: dict[str, np.ndarray]) -> None:
        """Count the activations of one run, and free them value by value."""
        self.samples += len(texts)
        self.tokens += int(mask.sum())
        keys = [token_keys(t.feeds["input_ids"]) for t in texts] if self.moments else []
        for name in list(values):
            array = values.pop(name)
            x = real_rows(array, mask)
            low, high = x.min(axis=0), x.max(axis=0)
            bounds = float(low.min()), float(high.max())
            if not np.isfinite(bounds).all():
                _refuse(name, array, mask, texts)
            if self.counted:
                self.histograms[name].add(x, bounds)
            else:
                self.histograms[name].widen(*bounds)
            self._widen(name, low, high)
            if name in self.moments:
                moments = self.moments[name] = self.moments[name] or Moments(x.shape[1])
                sample = self.drawn[name] = self.drawn[name] or Sample(x.shape[1])
                for i, key in enumerate(keys):
                    of_text = real_rows(array, mask, i)
                    moments.add(of_text)
                    sample.add(key[: len(of_text)], of_text)

    def merge(self, other: "Sums") -> None:
        """Add what another worker counted of the same values."""
        self.samples += other.samples
        self.tokens += other.tokens
        for name, histogram in other.histograms.items():
            self.histograms[name].merge(histogram)
            if name in other.low:
                self._widen(name, other.low[name], other.high[name])
        for name, theirs in other.moments.items():
            ours = self.moments[name]
            if ours is None:
                self.moments[name] = theirs
            elif theirs is not None:
                ours.merge(theirs)
        for name, sample in other.drawn.items():
            own = self.drawn[name]
            if own is None:
                self.drawn[name] = sample
            elif sample is not None:
                own.merge(sample)

    def results(self) -> dict[str, Observation]:
        """Return the observations; sums of moments are freed one by one."""
        observations = {}
        for name, histogram in self.histograms.items():
            moments = self.moments.pop(name, None)
            sample = self.drawn.pop(name, None)
            observations[name] = Observation(
                histogram,
                self.low[name],
                self.high[name],
                moment=moments.second_moment() if moments is not None else None,
                mean=moments.mean() if moments is not None else None,
                sample=sample.rows if sample is not None else None,
            )
        return observations

    def _widen(self, name: str, low: np.ndarray, high: np.ndarray) -> None:
        if name in self.low:
            np.minimum(self.low[name], low, out=self.low[name])
            np.maximum(self.high[name], high, out=self.high[name])
        else:
            self.low[name], self.high[name] = low.copy(), high.copy()


def _refuse(name: str, array: np.ndarray, mask: np.ndarray, texts: Sequence[TokenizedText]) -> None:
    """Raise NotFinite for the first text where an activation is not finite."""
    for i, text in enumerate(texts):
        x = real_rows(array, mask, i)
        if not np.isfinite(x).all():
            raise NotFinite(name, text, "NaN" if np.isnan(x).any() else "infinite")
