"""What compression preserves: losses against numpy, and gradients whose second moment is the Fisher information."""

import numpy as np
import pytest
import torch

from headway.calibration.batches import Batch
from headway.calibration.objective import (
    TEMPERATURE,
    disagreement_over,
    distance,
    distance_over,
    labeled,
    noise_floor,
    per_row,
    probe,
    unit,
)
from headway.tasks import Scoring

MASK = torch.tensor([[True, True, True], [True, False, False]])


def softmax(x: np.ndarray) -> np.ndarray:
    raised = np.exp(x - x.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def test_outputs_that_no_task_reads_are_no_part_of_what_is_preserved() -> None:
    wanted = {"logits": torch.zeros(2, 3), "last_hidden_state": torch.zeros(2, 3, 4)}
    other = wanted | {"last_hidden_state": torch.ones(2, 3, 4)}
    assert list(per_row(wanted, MASK)) == ["logits"]
    assert distance(other, wanted, MASK) == 0 and unit(list(wanted)) == "nats per text"


def test_rows_are_real_tokens_spans_over_them_or_texts() -> None:
    tokens = torch.arange(24.0).reshape(2, 3, 4)
    assert torch.equal(per_row({"logits": tokens}, MASK)["logits"], tokens[MASK])
    spans = per_row({"start_logits": torch.ones(2, 3)}, MASK)["start_logits"]
    assert spans[0].tolist() == [1, 1, 1] and spans[1, 0] == 1 and spans[1, 1:].max() < -1e3
    pooled = torch.ones(2, 5, 2)
    assert per_row({"pooled": pooled}, MASK)["pooled"].shape == (2, 10)
    assert set(per_row({"pooled": pooled, "ids": torch.ones(2, 3, dtype=torch.int64)}, MASK)) == {"pooled"}


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


def test_distance_is_zero_for_the_source_itself() -> None:
    mask = torch.tensor([[True, True, False]])
    outputs = {"logits": torch.randn(1, 3, 5), "other": torch.randn(1, 4)}
    assert float(distance(outputs, outputs, mask)) == pytest.approx(0, abs=1e-6)
    padded = {"logits": outputs["logits"].clone(), "other": outputs["other"]}
    padded["logits"][0, 2] = 9  # padding says nothing
    assert float(distance(padded, outputs, mask)) == pytest.approx(0, abs=1e-6)
    spans = per_row({"start_logits": torch.zeros(1, 3)}, mask)["start_logits"]
    assert spans[0, 2] < -1e3


RERANKER, REGRESSION = Scoring("value", "sigmoid"), Scoring("value", "identity")
SEVERAL = Scoring("multi-label", "sigmoid")


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("scoring", [RERANKER, None])
def test_opposite_answers_of_one_logit_are_far_apart(scoring: Scoring | None) -> None:
    """A softmax of one column is 1 whatever it holds: it made every gradient and every distance zero."""
    yes, no = torch.tensor([[6.0]], requires_grad=True), torch.tensor([[-6.0]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    p, q = sigmoid(np.array(-3.0)), sigmoid(np.array(3.0))
    wanted = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))) * TEMPERATURE**2
    assert float(distance({"logits": yes.detach()}, {"logits": no}, mask, scoring)) == pytest.approx(wanted, rel=1e-6)
    probe({"logits": yes}, mask, torch.Generator().manual_seed(0), scoring).backward()
    assert yes.grad is not None and abs(float(yes.grad)) == pytest.approx(np.sqrt(p * q), rel=1e-4)


def test_a_probe_of_several_labels_has_the_information_of_each() -> None:
    row = np.array([0.5, -1.0, 4.0])
    logits = torch.tensor(row, dtype=torch.float32).repeat(20_000, 1).requires_grad_()
    mask = torch.ones(len(logits), 1, dtype=torch.bool)
    probe({"logits": logits}, mask, torch.Generator().manual_seed(0), SEVERAL).backward()
    assert logits.grad is not None
    gradients = logits.grad.double().numpy()
    p = sigmoid(row / TEMPERATURE)
    np.testing.assert_allclose(gradients.T @ gradients / len(gradients), np.diag(p * (1 - p)), atol=0.01)


def test_values_are_compared_by_their_squares() -> None:
    mask = torch.ones(1, 2, dtype=torch.bool)
    given, wanted = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.5, 1.0]])
    assert float(distance({"logits": given}, {"logits": wanted}, mask, REGRESSION)) == pytest.approx(0.25 + 4)
    tanh = Scoring("value", "tanh")
    far = float(distance({"logits": given}, {"logits": wanted}, mask, tanh))
    assert far == pytest.approx(float((given.tanh() - wanted.tanh()).square().sum()), rel=1e-6)
    probed = given.clone().requires_grad_()
    probe({"logits": probed}, mask, torch.Generator().manual_seed(0), tanh).backward()
    plain = given.clone().requires_grad_()
    probe({"logits": plain}, mask, torch.Generator().manual_seed(0), REGRESSION).backward()
    assert probed.grad is not None and plain.grad is not None
    torch.testing.assert_close(probed.grad, plain.grad * (1 - given.tanh().square()))


@pytest.mark.parametrize("scoring", [SEVERAL, RERANKER, REGRESSION, Scoring("value", "tanh")])
def test_labels_of_other_kinds_have_their_own_loss(scoring: Scoring) -> None:
    logits, labels = np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([[1.0, 0.0], [0.25, 1.0]])
    p = sigmoid(logits)
    wanted = {
        "sigmoid": -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).sum(),
        "identity": np.square(logits - labels).sum(),
        "tanh": np.square(np.tanh(logits) - labels).sum(),
    }[scoring.activation]
    assert float(labeled({"logits": torch.tensor(logits)}, torch.tensor(labels), scoring)) == pytest.approx(wanted)


def test_the_distance_of_confident_answers_is_no_noise() -> None:
    """In float32 the divergence of these is rounding noise, negative for some; in float64 most of it cancels."""
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(64, 8, generator=generator).double() * 3
    teacher[:, 0] += 60
    mask = torch.ones(64, 1, dtype=torch.bool)
    steps = [1e-3, 2e-3, 4e-3]
    far = [float(distance({"logits": teacher + s * torch.arange(8)}, {"logits": teacher}, mask)) for s in steps]
    assert 0 < far[0] < far[1] < far[2]
    assert far[1] / far[0] == pytest.approx(4, rel=0.01)  # quadratic, as a divergence is near zero


def test_the_noise_floor_lies_between_rounding_and_a_real_change() -> None:
    generator = torch.Generator().manual_seed(0)
    feeds = {"attention_mask": np.ones((4, 3), np.int64)}
    batches = [Batch(feeds, np.arange(4))]
    for outputs in (
        {"logits": torch.randn(4, 1, generator=generator) * 9},
        {"pooled": torch.randn(4, 16, generator=generator)},
    ):
        floor = noise_floor(batches, [outputs])
        rounded = {n: torch.nextafter(v, v + 1) for n, v in outputs.items()}
        changed = {n: v * 1.001 for n, v in outputs.items()}
        assert distance_over(lambda _, r=rounded: r, batches, [outputs]) < floor
        assert distance_over(lambda _, c=changed: c, batches, [outputs]) > 10 * floor


def test_the_unit_is_named() -> None:
    assert unit(["logits"]) == unit(["start_logits", "end_logits"]) == unit(["logits"], RERANKER) == "nats per text"
    assert unit(["logits"], REGRESSION) == unit(["last_hidden_state"]) == "squared distance of the outputs per text"
    assert unit(["token_logits", "vectors"]) == "nats and squared distances per text"


def test_embeddings_that_all_moved_alike_are_none_the_worse() -> None:
    """What is read of sentence embeddings is their similarities; what is compared is how those of all texts run."""
    rng = torch.Generator().manual_seed(0)
    vectors = torch.randn(12, 5, generator=rng)
    batches = [
        Batch(
            {"input_ids": np.zeros((6, 3), np.int64), "attention_mask": np.ones((6, 3), np.int64)},
            np.arange(6 * i, 6 * i + 6),
        )
        for i in range(2)
    ]
    teacher = [{"sentence_embedding": v} for v in vectors.split(6)]

    def off(given: torch.Tensor) -> float:
        answers = iter([{"sentence_embedding": v} for v in given.split(6)])
        return disagreement_over(lambda _feeds: next(answers), batches, teacher)

    turned = torch.linalg.qr(torch.randn(5, 5, generator=rng))[0]
    assert off(vectors) == pytest.approx(0, abs=1e-6) and off(3 * vectors @ turned) == pytest.approx(0, abs=1e-5)
    noisy = [
        off(vectors + scale * torch.randn(12, 5, generator=torch.Generator().manual_seed(1)))
        for scale in (0.1, 0.3, 1.0)
    ]
    assert 0 < noisy[0] < noisy[1] < noisy[2]
    a, b = (torch.nn.functional.normalize(v, dim=-1) for v in (vectors + 1, vectors))
    upper = np.triu_indices(12, 1)
    assert off(vectors + 1) == pytest.approx(
        1 - np.corrcoef((a @ a.T).numpy()[upper], (b @ b.T).numpy()[upper])[0, 1], abs=1e-6
    )
    values = [{"logits": torch.ones(6, 1)}] * 2
    assert disagreement_over(lambda _: {"logits": torch.zeros(6, 1)}, batches, values) == distance_over(
        lambda _: {"logits": torch.zeros(6, 1)}, batches, values
    )


def test_texts_that_all_became_the_same_agree_with_nothing_and_outputs_come_one_by_one() -> None:
    """A correlation with a constant is no number; of other outputs only one batch's are held at a time."""
    batches = [
        Batch({"input_ids": np.zeros((4, 2), np.int64), "attention_mask": np.ones((4, 2), np.int64)}, np.arange(4))
    ] * 3
    vectors = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    same = {"sentence_embedding": torch.ones(4, 5)}
    collapsed = disagreement_over(lambda _: same, batches, [{"sentence_embedding": vectors}] * 3)
    assert collapsed == pytest.approx(1.0)
    assert disagreement_over(lambda _: same, [], []) == 0.0
    order: list[str] = []

    def teacher():
        for _ in batches:
            order.append("teacher")
            yield {"logits": torch.zeros(4, 2)}

    def student(_: object) -> dict[str, torch.Tensor]:
        order.append("student")
        return {"logits": torch.zeros(4, 2)}

    assert disagreement_over(student, batches, teacher()) == 0.0
    assert order.index("student") <= 2 and order[-2:] in (["student", "teacher"], ["teacher", "student"])
