"""Evidence: gradients against brute force, independence of batches and padding; batches; removal against brute force."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calibration.batches import check_known, make_batches
from headway.calibration.objective import distance, per_row
from headway.calibration.removal import removal_order
from headway.errors import HeadwayWarning, UsageError
from headway.exporter.compress.evidence import FLOOR, collect
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.torch_graph import TorchGraph

from tests.support.variants import batch, canonical


@pytest.fixture(scope="module")
def classifier(bert_classifier: Path) -> ir.Model:
    return canonical(bert_classifier)


TEXTS = [list(range(5, 5 + n)) for n in (4, 6, 6, 9, 11, 3)]


def test_moments_are_those_of_gradients_taken_text_by_text(classifier) -> None:
    anatomy, graph = read_anatomy(classifier), TorchGraph(classifier)
    labels = np.array([0, 1, 1, 0, 1, 0])
    found = collect(graph, anatomy, [batch(TEXTS)], source="s", text="t", labels=labels)
    for p in (p for b in anatomy.blocks for p in b.projections):
        read, slopes = [], []
        for text, label in zip(TEXTS, labels, strict=True):
            added = torch.zeros(1, len(text), p.out_features, requires_grad=True)
            hooks = {p.input: lambda x, r=read: (r.append(x.detach()[0]), x)[1], p.output: lambda x, d=added: x + d}
            loss = torch.nn.functional.cross_entropy(graph(batch([text]).feeds, hooks)["logits"], torch.tensor([label]))
            slopes.append(torch.autograd.grad(loss, added)[0][0])
        g = torch.cat(slopes)
        moment = found.outputs[str(p.output.name)]
        wanted = (g.T @ g / len(g)).numpy()
        assert np.allclose(moment, wanted if moment.ndim == 2 else np.diag(wanted), rtol=1e-3, atol=1e-7)
        if sum(q.input is p.input for b in anatomy.blocks for q in b.projections) == 1:
            energies = [s.square().sum(-1) for s in slopes]
            w = torch.cat([(1 - FLOOR) * e / e.mean() + FLOOR for e in energies])[:, None]
            x = torch.cat(read)
            assert np.allclose(found.inputs[str(p.input.name)], ((x * w).T @ x / w.sum()).numpy(), rtol=1e-3, atol=1e-5)
            assert np.allclose(found.mean[str(p.input.name)], ((x * w).sum(0) / w.sum()).numpy(), rtol=1e-3, atol=1e-5)


def test_batches_and_padding_do_not_matter(classifier) -> None:
    """Statistics that are drawn at random differ by batch; those of labels and of inputs must not."""
    anatomy, graph = read_anatomy(classifier), TorchGraph(classifier)
    labels = np.array([0, 1, 1, 0, 1, 0])
    ways = (
        [batch(TEXTS)],
        [batch(TEXTS, width=30)],
        [batch([t], i) for i, t in enumerate(TEXTS)],
        [batch(TEXTS[:2]), batch(TEXTS[2:], 2)],
    )
    first, *others = [collect(graph, anatomy, w, source="s", text="t", labels=labels) for w in ways]
    for other in others:
        assert other.tokens == first.tokens
        for kind in ("inputs", "mean", "outputs"):
            for name, array in getattr(first, kind).items():
                assert np.allclose(array, getattr(other, kind)[name], rtol=1e-3, atol=1e-6), (kind, name)


def test_every_text_needs_a_label(classifier) -> None:
    with pytest.raises(UsageError, match="5 labels were given for 6 texts"):
        collect(
            TorchGraph(classifier),
            read_anatomy(classifier),
            [batch(TEXTS)],
            source="",
            text="",
            labels=np.zeros(5, int),
        )


def encode(texts, longest):
    rows = [[1, *[5 + len(w) for w in t.split()], 2][:longest] for t in texts]
    return batch(rows).feeds


def test_batches_hold_similar_lengths_once_each() -> None:
    lines = [" ".join(["word"] * n) for n in (1, 30, 2, 28, 3, 29, 1)]
    made = make_batches(encode, lines, longest=64, tokens=100)
    assert sorted(np.concatenate([b.rows for b in made])) == list(range(7))
    assert all(b.mask.size <= 100 for b in made)
    assert sum(b.mask.sum() for b in made) == sum(len(line.split()) + 2 for line in lines)
    drawn = make_batches(encode, lines, longest=64, samples=3, seed=1)
    assert sum(len(b.rows) for b in drawn) == 3
    again = make_batches(encode, lines, longest=64, samples=3, seed=1)
    assert all(np.array_equal(a.rows, b.rows) for a, b in zip(drawn, again, strict=True))
    few = make_batches(encode, lines, longest=64, most_tokens=40)
    assert sum(int(b.mask.sum()) for b in few) <= 40
    with pytest.raises(UsageError, match="empty"):
        make_batches(encode, [], longest=64)


def test_text_of_unknown_tokens_is_refused() -> None:
    assert check_known([batch([[1, 5, 7, 2]])], [1, 2, 3], 3) == 0
    with pytest.warns(HeadwayWarning, match="25 % of the calibration text's tokens are unknown"):
        assert check_known([batch([[1, 3, 7, 2], [1, 8, 9, 2]])], [1, 2], 3) == 0.25
    with pytest.raises(UsageError, match=r"67 % of the calibration text's tokens are unknown.*right language"):
        check_known([batch([[1, 3, 3, 4, 2]])], [1, 2, 3], 3)
    for nothing in ([1, 3, 3, 2], [1, 2]):
        with pytest.raises(UsageError, match="becomes a known token"):
            check_known([batch([nothing])], [1, 2], 3)


def test_distance_is_zero_for_the_source_itself() -> None:
    mask = torch.tensor([[True, True, False]])
    outputs = {"logits": torch.randn(1, 3, 5), "other": torch.randn(1, 4)}
    assert float(distance(outputs, outputs, mask)) == pytest.approx(0, abs=1e-6)
    padded = {"logits": outputs["logits"].clone(), "other": outputs["other"]}
    padded["logits"][0, 2] = 9  # padding says nothing
    assert float(distance(padded, outputs, mask)) == pytest.approx(0, abs=1e-6)
    spans = per_row({"start_logits": torch.zeros(1, 3)}, mask)["start_logits"]
    assert spans[0, 2] < -1e3


def brute(weight: np.ndarray, inputs: np.ndarray, outputs: np.ndarray, gone: list[int]) -> float:
    """Least `tr(ΔWᵀ H ΔW G)` over all changes that make the rows in `gone` zero: by solving for the others."""
    stay = [i for i in range(len(weight)) if i not in gone]
    new = np.zeros_like(weight)
    if stay:
        new[stay] = np.linalg.solve(inputs[np.ix_(stay, stay)], inputs[stay] @ weight)
    d = new - weight
    return float(np.trace(d.T @ inputs @ d @ outputs))


@settings(max_examples=20, deadline=None)
@given(units=st.integers(2, 6), unit=st.integers(1, 3), out=st.integers(1, 5), seed=st.integers(0, 99))
def test_removal_costs_what_the_best_repair_leaves(units: int, unit: int, out: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = units * unit
    x, g = rng.standard_normal((4 * n + 5, n)) * rng.random(n), rng.standard_normal((50, out))
    inputs, outputs, weight = x.T @ x / len(x), g.T @ g / len(g), rng.standard_normal((n, out))
    damped = inputs + 1e-2 * np.diag(inputs).mean() * np.eye(n)
    found = removal_order(weight, inputs, None, outputs, unit=unit, at_once=1)
    assert sorted(found.order) == list(range(units))
    for count in range(units + 1):
        gone = [int(u) * unit + i for u in found.order[:count] for i in range(unit)]
        assert found.loss[count] == pytest.approx(brute(weight, damped, outputs, gone), rel=1e-5, abs=1e-9)
    cheapest = min(brute(weight, damped, outputs, [u * unit + i for i in range(unit)]) for u in range(units))
    assert found.loss[1] == pytest.approx(cheapest, rel=1e-5)
    assert found.kept(2) == sorted(found.order[-2:].tolist())


def test_a_constant_input_costs_nothing_where_a_bias_takes_it() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 4))
    x[:, 2] = 5.0
    inputs, mean = x.T @ x / 200, x.mean(0)
    weight = rng.standard_normal((4, 3))
    assert removal_order(weight, inputs, mean, np.eye(3), at_once=1).order[0] == 2
    assert removal_order(weight, inputs, None, np.eye(3), at_once=1).order[0] != 2
