"""Evidence: gradients against brute force, whatever the batches and their padding."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from headway.errors import UsageError
from headway.exporter.compress.evidence import FLOOR, collect
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.torch_graph import TorchGraph
from headway.tasks import Scoring

from tests.support import models
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


def test_labels_are_for_models_with_logits(tmp_path: Path) -> None:
    made = canonical(models.make_model(tmp_path, num_hidden_layers=1))
    with pytest.raises(UsageError, match="the model gives last_hidden_state and no logits"):
        collect(TorchGraph(made), read_anatomy(made), [batch(TEXTS)], source="", text="", labels=np.zeros(6, int))


@pytest.mark.parametrize("scoring", [Scoring("value", "sigmoid"), Scoring("value", "identity"), None])
def test_a_model_with_one_logit_has_evidence(tmp_path: Path, scoring: Scoring | None) -> None:
    """By a softmax of its one logit every gradient is zero, and all directions of an output count alike."""
    made = canonical(models.make_model(tmp_path, "bert", "text-classification", num_labels=1))
    anatomy = read_anatomy(made)
    found = collect(TorchGraph(made), anatomy, [batch(TEXTS)], source="s", text="t", scoring=scoring)
    for moment in found.outputs.values():
        alike = np.eye(len(moment)) if moment.ndim == 2 else np.ones(len(moment))
        assert moment.any() and not np.allclose(moment, alike)


@pytest.mark.parametrize("scoring", [Scoring("multi-label", "sigmoid"), Scoring("value", "identity")])
def test_labels_of_other_kinds_are_learned_from(classifier, scoring: Scoring) -> None:
    anatomy, graph = read_anatomy(classifier), TorchGraph(classifier)
    labels = np.random.default_rng(0).integers(0, 2, (len(TEXTS), 2)).astype(np.float32)
    given = [labels, 1 - labels]
    one, other = (
        collect(graph, anatomy, [batch(TEXTS)], source="s", text="t", labels=x, scoring=scoring).outputs for x in given
    )
    assert all(np.isfinite(m).all() and m.any() for m in one.values())
    assert not all(np.allclose(one[name], other[name]) for name in one)
