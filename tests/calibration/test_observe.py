"""Observers on a small random BERT: bit-equal however the text is handed over, close to numpy, and every bad input named."""

import tracemalloc

import numpy as np
import onnx_ir as ir
import pytest
import torch

from headway.calibration.histogram import Histogram
from headway.errors import SourceError, UsageError
from headway.exporter.graph.torch_graph import TorchGraph

from tests.support.observing import TEXTS, assert_equal, batches, watch
from tests.support.variants import batch


def test_bit_equal_however_the_text_is_handed_over(classifier: ir.Model, values: list[str]) -> None:
    first = watch(classifier, batches(1), values, moments=values)
    assert (first.samples, first.tokens) == (len(TEXTS), sum(map(len, TEXTS)))
    shuffled = [batches(8)[i] for i in np.random.default_rng(1).permutation(len(batches(8)))]
    mixed = [TEXTS[i] for i in np.random.default_rng(2).permutation(len(TEXTS))]
    for handed in (batches(8), batches(64), shuffled, batches(16, mixed), [batch(TEXTS, width=66, filler=7)]):
        assert_equal(first, watch(classifier, handed, values, moments=values))
    for size in (1, 8, 64):
        assert_equal(first, watch(classifier, iter(batches(size)), values, moments=values, workers=2))


def test_statistics_are_those_of_all_real_tokens(classifier: ir.Model, values: list[str]) -> None:
    observations = watch(classifier, batches(16), values, moments=values)
    graph = TorchGraph(classifier)
    names = ir.convenience.create_value_mapping(classifier.graph, include_subgraphs=False)
    activations: dict[str, list[np.ndarray]] = {n: [] for n in values}
    for text in TEXTS:
        hooks = {
            names[n]: lambda x, n=n: (activations[n].append(x.numpy().reshape(-1, x.shape[-1])), x)[1] for n in values
        }
        with torch.no_grad():
            graph(batch([text]).feeds, hooks)
    for name in values:
        x = np.concatenate(activations[name])
        observation = observations.values[name]
        assert observation.histogram.total == x.size
        assert observation.histogram.low == pytest.approx(x.min(), abs=1e-4)
        assert observation.histogram.high == pytest.approx(x.max(), abs=1e-4)
        assert np.allclose(observation.channel_low, x.min(0), atol=1e-4) and np.allclose(
            observation.channel_high, x.max(0), atol=1e-4
        )
        assert observation.moment is not None and observation.mean is not None
        assert np.allclose(observation.moment, x.T.astype(np.float64) @ x / len(x), rtol=1e-3, atol=1e-4)
        assert np.allclose(observation.mean, x.mean(0, dtype=np.float64), rtol=1e-3, atol=1e-4)
        assert np.abs(observation.histogram.counts - Histogram.of(x).counts).sum() < 0.02 * x.size


def test_extremes_alone_are_the_same_extremes(classifier: ir.Model, values: list[str]) -> None:
    counted = watch(classifier, batches(8), values)
    extremes = watch(classifier, batches(64), values, histograms=False, workers=2)
    for name, observation in extremes.values.items():
        assert observation.range() == counted.values[name].range()
        assert np.array_equal(observation.channel_low, counted.values[name].channel_low)
        with pytest.raises(UsageError, match="percentile ranges need histograms"):
            observation.range("percentile")


@pytest.mark.parametrize(("poison", "word"), [(np.nan, "NaN"), (np.inf, "infinite|NaN")])
def test_activations_that_are_not_finite_are_named(
    classifier: ir.Model, values: list[str], poison: float, word: str
) -> None:
    """One word's embedding is broken: the first value behind it and the first text that holds it are named."""
    broken = classifier.clone()
    table = broken.graph.initializers["bert.embeddings.word_embeddings.weight"]
    assert table.const_value is not None
    array = table.const_value.numpy().copy()
    array[299] = poison
    table.const_value = ir.Tensor(array, name=table.name)
    texts = [*TEXTS[:20], [5, 299, 6]]
    with pytest.raises(SourceError, match=rf"value '{values[0]}'.* is ({word}) on text 20 .*3 tokens"):
        watch(broken, batches(8, texts), values)
    with pytest.raises(SourceError, match=r"is (NaN|infinite) on text 20"):
        watch(broken, batches(1, texts), values, workers=2)
    watch(broken, batches(8, texts[:20]), values)


def test_values_that_are_not_there_and_empty_text(classifier: ir.Model, values: list[str]) -> None:
    with pytest.raises(UsageError, match="'nowhere' is not computed"):
        watch(classifier, batches(8), ["nowhere"])
    mask = next(str(n.outputs[0].name) for n in classifier.graph if n.op_type == "Cast")
    with pytest.raises(UsageError, match="last axis has no fixed size"):
        watch(classifier, batches(8), [mask])
    with pytest.raises(UsageError, match="nothing to observe"):
        watch(classifier, batches(8), [])
    with pytest.raises(UsageError, match="text is empty"):
        watch(classifier, [], values)
    with pytest.raises(UsageError, match="'token_type_ids', which the batches do not hold"):
        feeds = batch(TEXTS[:2]).feeds
        watch(classifier, [{k: feeds[k] for k in ("input_ids", "attention_mask")}], values)


def test_one_token_texts_are_texts(classifier: ir.Model, values: list[str]) -> None:
    observations = watch(classifier, batches(8, [[5], [6], [7]]), values, moments=values)
    assert (observations.samples, observations.tokens) == (3, 3)
    assert all(
        np.isfinite(o.range(m)).all() for o in observations.values.values() for m in ("min-max", "entropy", "mse")
    )
    alone = watch(classifier, batches(1, [[5], [6], [7]]), values, moments=values)
    assert_equal(observations, alone)


def test_memory_does_not_grow_with_the_text(classifier: ir.Model, values: list[str]) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        watch(classifier, (batch(TEXTS[3:35], 32 * i) for i in range(count)), values, moments=values[:2])
        observations = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return observations

    peak(8)
    assert peak(40) < 1.15 * peak(8)
