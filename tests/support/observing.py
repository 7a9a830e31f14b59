"""Helpers of the tests that observe activations: texts, their batches, and equality to the last bit."""

import numpy as np
import onnx_ir as ir

from headway.calibration.batches import Batch
from headway.calibration.observe import Observations, observe

from tests.support.variants import batch

RNG = np.random.default_rng(0)


TEXTS = [RNG.integers(5, 250, n).tolist() for n in [1, 2, 64, *RNG.integers(3, 40, 90)]]


def batches(size: int, texts: list[list[int]] = TEXTS) -> list[Batch]:
    return [batch(texts[i : i + size], i) for i in range(0, len(texts), size)]


def watch(model: ir.Model, made, values: list[str], **more) -> Observations:
    return observe(model, made, values, source="model", text="text", **more)


def assert_equal(a: Observations, b: Observations) -> None:
    assert (a.samples, a.tokens, list(a.values)) == (b.samples, b.tokens, list(b.values))
    for name, observation in a.values.items():
        other = b.values[name]
        assert observation.histogram == other.histogram, name
        for array in ("channel_low", "channel_high", "moment", "mean", "sample"):
            x, y = getattr(observation, array), getattr(other, array)
            assert (x is None and y is None) or np.array_equal(x, y), (name, array)
