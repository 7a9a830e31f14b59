"""Masks of scores, against the definitions written out."""

import pytest
import torch

from headway.exporter.source.checkpoints.scores import mask_of, one_of_patterns, soft_gate, stretched_gate, two_of_four

SCORES = torch.randn(8, 12, generator=torch.Generator().manual_seed(0))


def test_the_highest_scores_are_kept() -> None:
    mask = mask_of("topK", SCORES, 0.25)
    assert mask.sum() == 24 and SCORES[mask == 1].min() > SCORES[mask == 0].max()
    magnitude = mask_of("magnitude", SCORES, 0.25)
    assert magnitude.sum() == 24 and SCORES.abs()[magnitude == 1].min() > SCORES.abs()[magnitude == 0].max()


def test_scores_above_a_threshold_are_kept() -> None:
    assert torch.equal(mask_of("threshold", SCORES, 0.3), (SCORES > 0.3).float())
    assert torch.equal(mask_of("sigmoied_threshold", SCORES, 0.6), (SCORES.sigmoid() > 0.6).float())


@pytest.mark.parametrize(("least", "kept"), [(0.0, 0), (0.005, 1), (0.1, 10)])
def test_a_few_are_kept_at_all_costs(least: float, kept: int) -> None:
    assert mask_of("threshold", SCORES, 99.0, least).sum() == kept


def test_gates() -> None:
    odds = torch.tensor([-9.0, 0.0, 9.0])
    assert stretched_gate(odds).tolist() == pytest.approx([0.0, 0.5, 1.0])
    assert torch.equal(mask_of("l0", odds, None), stretched_gate(odds))
    # 0.0012 + 11 / 12 + 0.99999 gates are expected to be open: one of three is closed.
    assert soft_gate(odds).tolist() == pytest.approx([0.0, 0.5, 0.99925], abs=1e-5)


def test_patterns_of_four() -> None:
    mask = two_of_four(SCORES)
    assert (mask.reshape(8, 3, 4).sum(2) == 2).all()
    assert mask[0, :4].nonzero().flatten().tolist() == sorted(SCORES[0, :4].topk(2).indices.tolist())
    patterns = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])
    chosen = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]] * 3)
    assert torch.equal(one_of_patterns(chosen, patterns), torch.tensor([[1.0, 1, 0, 0, 0, 0, 1, 1]] * 3).t())
