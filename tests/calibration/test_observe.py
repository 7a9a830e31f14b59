"""Observers on a small random BERT: bit-equal however the text is handed over, right beside numpy, and every bad input named."""

import json
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from headway.calibration import observe as module
from headway.calibration.batches import Batch
from headway.calibration.histogram import Histogram
from headway.calibration.observe import Observations, Sums, gather, observe, rows
from headway.errors import SourceError, UsageError
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.torch_graph import TorchGraph

from variants import batch, canonical

RNG = np.random.default_rng(0)
TEXTS = [RNG.integers(5, 250, n).tolist() for n in [1, 2, 64, *RNG.integers(3, 40, 90)]]


@pytest.fixture(scope="module")
def classifier(bert_classifier: Path) -> ir.Model:
    return canonical(bert_classifier)


@pytest.fixture(scope="module")
def values(classifier: ir.Model) -> list[str]:
    """Inputs of all projections, by token and (pooled) by text."""
    anatomy = read_anatomy(classifier)
    projections = [p for b in anatomy.blocks for p in b.projections] + list(anatomy.head)
    return list(dict.fromkeys(str(p.input.name) for p in projections))


def batches(size: int, texts: list[list[int]] = TEXTS) -> list[Batch]:
    return [batch(texts[i : i + size], i) for i in range(0, len(texts), size)]


def watch(model: ir.Model, made, values: list[str], **more) -> Observations:
    return observe(model, made, values, source="model", text="text", **more)


def assert_equal(a: Observations, b: Observations) -> None:
    assert (a.samples, a.tokens, list(a.values)) == (b.samples, b.tokens, list(b.values))
    for name, one in a.values.items():
        other = b.values[name]
        assert one.histogram == other.histogram, name
        for array in ("channel_low", "channel_high", "moment", "mean", "sample"):
            x, y = getattr(one, array), getattr(other, array)
            assert (x is None and y is None) or np.array_equal(x, y), (name, array)


def test_bit_equal_however_the_text_is_handed_over(classifier: ir.Model, values: list[str]) -> None:
    first = watch(classifier, batches(1), values, moments=values)
    assert (first.samples, first.tokens) == (len(TEXTS), sum(map(len, TEXTS)))
    shuffled = [batches(8)[i] for i in np.random.default_rng(1).permutation(len(batches(8)))]
    mixed = [TEXTS[i] for i in np.random.default_rng(2).permutation(len(TEXTS))]
    for made in (batches(8), batches(64), shuffled, batches(16, mixed), [batch(TEXTS, width=66, filler=7)]):
        assert_equal(first, watch(classifier, made, values, moments=values))
    for size in (1, 8, 64):
        assert_equal(first, watch(classifier, iter(batches(size)), values, moments=values, workers=2))


def gather_part(path: str, parts: list[list[list[int]]], values: list[str]) -> Sums:
    """What one process counts."""
    return gather(ir.load(path), [batch(p) for p in parts], values, moments=values)


def test_processes_merge_exactly(classifier: ir.Model, values: list[str], tmp_path: Path) -> None:
    ir.save(classifier, tmp_path / "model.onnx")
    halves = [TEXTS[:30], TEXTS[30:]]
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        jobs = [pool.submit(gather_part, str(tmp_path / "model.onnx"), [h], values) for h in halves]
        second, first = (j.result() for j in reversed(jobs))
    second.merge(first)
    found = Observations("model", "text", 0, second.samples, second.tokens, second.results())
    assert_equal(watch(classifier, batches(8), values, moments=values), found)


def test_alone_and_together_are_equal(classifier: ir.Model, values: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the fast way gives is what every text gives alone; and where it did not, texts would run alone."""
    together = watch(classifier, batches(64), values, moments=values)
    monkeypatch.setattr(module, "_TOKENS", 1)
    assert_equal(together, watch(classifier, batches(64), values, moments=values))
    monkeypatch.setattr(module, "_TOKENS", 256)
    session = module._Session(classifier, values)
    window = module._Feed(batches(64)).next(lambda: None)
    assert window is not None
    groups = list(module.portions(window))
    assert max(map(len, groups)) > 1
    assert session.batched and all(len(ran) == len(g) for g in groups for ran, _, _ in session.run(g))
    run, session._checked = session._run, set()

    def differently(texts):
        mask, found = run(texts)
        return mask, {k: v + np.float32(len(texts) > 1) for k, v in found.items()}

    session._run = differently  # type: ignore[method-assign]
    ran = [len(texts) for g in groups for texts, _, _ in session.run(g)]
    assert not session.batched and ran == [1] * len(window)


def test_statistics_are_those_of_all_real_tokens(classifier: ir.Model, values: list[str]) -> None:
    found = watch(classifier, batches(16), values, moments=values)
    graph = TorchGraph(classifier)
    names = ir.convenience.create_value_mapping(classifier.graph, include_subgraphs=False)
    kept: dict[str, list[np.ndarray]] = {n: [] for n in values}
    for text in TEXTS:
        hooks = {names[n]: lambda x, n=n: (kept[n].append(x.numpy().reshape(-1, x.shape[-1])), x)[1] for n in values}
        with torch.no_grad():
            graph(batch([text]).feeds, hooks)
    for name in values:
        x = np.concatenate(kept[name])
        one = found.values[name]
        assert one.histogram.total == x.size
        assert one.histogram.low == pytest.approx(x.min(), abs=1e-4)
        assert one.histogram.high == pytest.approx(x.max(), abs=1e-4)
        assert np.allclose(one.channel_low, x.min(0), atol=1e-4) and np.allclose(one.channel_high, x.max(0), atol=1e-4)
        assert one.moment is not None and one.mean is not None
        assert np.allclose(one.moment, x.T.astype(np.float64) @ x / len(x), rtol=1e-3, atol=1e-4)
        assert np.allclose(one.mean, x.mean(0, dtype=np.float64), rtol=1e-3, atol=1e-4)
        assert np.abs(one.histogram.counts - Histogram.of(x).counts).sum() < 0.02 * x.size


def test_extremes_alone_are_the_same_extremes(classifier: ir.Model, values: list[str]) -> None:
    whole = watch(classifier, batches(8), values)
    made = watch(classifier, batches(64), values, histograms=False, workers=2)
    for name, one in made.values.items():
        assert one.range() == whole.values[name].range()
        assert np.array_equal(one.channel_low, whole.values[name].channel_low)
        with pytest.raises(UsageError, match="percentile ranges need histograms"):
            one.range("percentile")


def test_what_counts_as_a_row() -> None:
    """By token, by token stored back to back, or by text: also where a text is as long as a vector is wide."""
    mask = np.array([[True, True, True, True], [True, False, False, False]])
    x = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    assert np.array_equal(rows(x, mask), x[mask])
    assert np.array_equal(rows(x.reshape(8, 3), mask), x[mask])
    assert np.array_equal(rows(x.reshape(8, 3), mask, 1), x[1, :1])
    pooled = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert np.array_equal(rows(pooled, mask), pooled)
    assert np.array_equal(rows(pooled, mask, 1), pooled[1:])
    assert np.array_equal(rows(pooled[:, None], mask), pooled)
    for shape in ((5, 3), (2, 3, 4), (2, 6, 4, 4)):
        with pytest.raises(UsageError, match="has neither tokens nor texts"):
            rows(np.zeros(shape, np.float32), mask)


def test_saved_and_loaded_or_refused(classifier: ir.Model, values: list[str], tmp_path: Path) -> None:
    found = watch(classifier, batches(8), values, moments=values[:1], seed=3)
    found.save(tmp_path / "seen")
    again = Observations.load(tmp_path / "seen", source="model")
    assert_equal(found, again)
    assert again.describe() == found.describe() and again.seed == 3
    with pytest.raises(SourceError, match="another model"):
        Observations.load(tmp_path / "seen", source="other")
    described = json.loads((tmp_path / "seen.json").read_text())
    (tmp_path / "seen.json").write_text(json.dumps(described | {"schema_version": 99}))
    with pytest.raises(SourceError, match="another version"):
        Observations.load(tmp_path / "seen", source="model")
    (tmp_path / "seen.json").write_text("{")
    with pytest.raises(SourceError, match="cannot be read"):
        Observations.load(tmp_path / "seen", source="model")


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
    found = watch(classifier, batches(8, [[5], [6], [7]]), values, moments=values)
    assert (found.samples, found.tokens) == (3, 3)
    assert all(np.isfinite(o.range(m)).all() for o in found.values.values() for m in ("min-max", "entropy", "mse"))
    alone = watch(classifier, batches(1, [[5], [6], [7]]), values, moments=values)
    assert_equal(found, alone)


def test_memory_does_not_grow_with_the_text(classifier: ir.Model, values: list[str]) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        watch(classifier, (batch(TEXTS[3:35], 32 * i) for i in range(count)), values, moments=values[:2])
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(8)
    assert peak(40) < 1.15 * peak(8)
