"""Objectives."""

import pytest
import torch

from headway.calibration.objective import distance, per_row


def test_distance_is_zero_for_the_source_itself() -> None:
    mask = torch.tensor([[True, True, False]])
    outputs = {"logits": torch.randn(1, 3, 5), "other": torch.randn(1, 4)}
    assert float(distance(outputs, outputs, mask)) == pytest.approx(0, abs=1e-6)
    padded = {"logits": outputs["logits"].clone(), "other": outputs["other"]}
    padded["logits"][0, 2] = 9  # padding says nothing
    assert float(distance(padded, outputs, mask)) == pytest.approx(0, abs=1e-6)
    spans = per_row({"start_logits": torch.zeros(1, 3)}, mask)["start_logits"]
    assert spans[0, 2] < -1e3
