"""What compression preserves: losses against numpy, and gradients whose second moment is the Fisher information."""

import numpy as np
import pytest
import torch

from headway.calibration.batches import Batch
from headway.calibration.objective import (
    TEMPERATURE,
    distance,
    distance_over,
    labeled,
    main_outputs,
    per_row,
    probe,
)

MASK = torch.tensor([[True, True, True], [True, False, False]])


def softmax(x: np.ndarray) -> np.ndarray:
    raised = np.exp(x - x.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def test_a_sentence_embedding_stands_for_the_vectors_it_is_pooled_from() -> None:
    assert main_outputs(["last_hidden_state", "sentence_embedding"]) == ["sentence_embedding"]
    assert main_outputs(["start_logits", "end_logits"]) == ["start_logits", "end_logits"]


def test_rows_are_real_tokens_spans_over_them_or_texts() -> None:
    tokens = torch.arange(24.0).reshape(2, 3, 4)
    assert torch.equal(per_row({"logits": tokens}, MASK)["logits"], tokens[MASK])
    spans = per_row({"start_logits": torch.ones(2, 3)}, MASK)["start_logits"]
    assert spans[0].tolist() == [1, 1, 1] and spans[1, 0] == 1 and spans[1, 1:].max() < -1e3
    pooled = torch.ones(2, 5, 2)
    assert per_row({"pooled": pooled}, MASK)["pooled"].shape == (2, 10)


def test_a_probe_of_logits_has_the_fisher_information_of_the_answers() -> None:
    logits = torch.tensor([0.5, -1.0, 2.0]).repeat(40_000, 1).requires_grad_()
    mask = torch.ones(len(logits), 1, dtype=torch.bool)
    probe({"logits": logits}, mask, torch.Generator().manual_seed(0)).backward()
    assert logits.grad is not None
    gradients = logits.grad.double().numpy()
    p = softmax(np.array([0.5, -1.0, 2.0]) / TEMPERATURE)
    np.testing.assert_allclose(gradients.T @ gradients / len(gradients), np.diag(p) - np.outer(p, p), atol=0.01)
    np.testing.assert_allclose(gradients.mean(0), 0, atol=0.01)


def test_a_probe_of_vectors_has_the_same_information_in_every_direction() -> None:
    vectors = torch.zeros(40_000, 4, requires_grad=True)
    probe({"pooled": vectors}, torch.ones(40_000, 1, dtype=torch.bool), torch.Generator().manual_seed(0)).backward()
    assert vectors.grad is not None
    gradients = vectors.grad.double().numpy()
    np.testing.assert_allclose(gradients.T @ gradients / len(gradients), np.eye(4) / 4, atol=0.01)


def test_labels_are_judged_by_cross_entropy() -> None:
    logits = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 4.0]])
    wanted = -np.log(softmax(logits)[[0, 1], [1, 2]]).sum()
    loss = labeled({"logits": torch.tensor(logits)}, torch.tensor([1, 2]))
    assert float(loss) == pytest.approx(wanted)


def test_distance_is_the_divergence_of_logits_and_the_squared_distance_of_vectors() -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.standard_normal((2, 2, 4)).astype(np.float32)
    p, q = (softmax(x.astype(np.float64) / TEMPERATURE) for x in (teacher, student))
    mask = torch.ones(2, 3, dtype=torch.bool)
    distances = {
        name: float(distance({name: torch.tensor(student)}, {name: torch.tensor(teacher)}, mask))
        for name in ("logits", "pooled")
    }
    assert distances["logits"] == pytest.approx((p * np.log(p / q)).sum() * TEMPERATURE**2, rel=1e-5)
    assert distances["pooled"] == pytest.approx(np.square(student - teacher).sum(), rel=1e-5)


def test_distance_over_batches_is_their_sum() -> None:
    feeds = {"attention_mask": np.ones((1, 2), np.int64)}
    batches = [Batch(feeds, np.array([i])) for i in range(3)]
    teacher = [{"pooled": torch.full((1, 2), float(i))} for i in range(3)]
    assert distance_over(lambda _feeds: {"pooled": torch.zeros(1, 2)}, batches, teacher) == 2 * (0 + 1 + 4)
