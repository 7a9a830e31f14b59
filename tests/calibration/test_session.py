"""Texts run together where that changes no bit of their activations, and alone where it does."""

import numpy as np
import onnx_ir as ir
import pytest

from headway.calibration import feed
from headway.calibration.feed import Feed, portions
from headway.calibration.session import Session

from tests.support.observing import assert_equal, batches, watch


def test_alone_and_together_are_equal(classifier: ir.Model, values: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the fast way gives is what every text gives alone; and where it did not, texts would run alone."""
    together = watch(classifier, batches(64), values, moments=values)
    monkeypatch.setattr(feed, "_TOKENS", 1)
    assert_equal(together, watch(classifier, batches(64), values, moments=values))
    monkeypatch.setattr(feed, "_TOKENS", 256)
    session = Session.of(classifier, values)
    window = Feed(batches(64)).next(lambda: None)
    assert window is not None
    groups = list(portions(window))
    assert max(map(len, groups)) > 1
    assert session.batched and all(len(ran) == len(g) for g in groups for ran, _, _ in session.run(g))
    run, session._checked = session._run, set()

    def differently(texts):
        mask, activations = run(texts)
        return mask, {k: v + np.float32(len(texts) > 1) for k, v in activations.items()}

    session._run = differently  # type: ignore[method-assign]
    ran = [len(texts) for g in groups for texts, _, _ in session.run(g)]
    assert not session.batched and ran == [1] * len(window)
