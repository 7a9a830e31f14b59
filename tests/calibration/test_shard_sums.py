"""Sums of shards: the same to the last bit however shards are grouped, ordered and repeated."""

import copy
import pickle
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from headway.calibration.corpus_shards import Corpus
from headway.calibration.observe import Observations, observe
from headway.calibration.session import Session
from headway.calibration.shard_sums import Counting, ShardSums, batches_of, count_shards
from headway.errors import SourceError, UsageError
from headway.text import TextEncoder

from tests.support.corpora import encoder_of, write_corpus
from tests.support.observing import assert_equal


@pytest.fixture(scope="module")
def encoder(bert_classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return encoder_of(bert_classifier, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus.jsonl")


@pytest.fixture(scope="module")
def counting(values: list[str]) -> Counting:
    return Counting(tuple(values), frozenset(values), True)


@pytest.fixture(scope="module")
def each(classifier: ir.Model, encoder: TextEncoder, corpus: Corpus, counting: Counting) -> list[ShardSums]:
    """Count every shard by itself."""
    session = Session.of(classifier, counting.names)
    return [count_shards(session, encoder, corpus, [n], counting) for n in range(len(corpus.shards))]


def observed(sums: ShardSums) -> Observations:
    return Observations("model", "text", 0, sums.sums.samples, sums.sums.tokens, copy.deepcopy(sums).sums.results())


def merged(parts: list[ShardSums]) -> ShardSums:
    first, *others = [pickle.loads(pickle.dumps(part)) for part in parts]
    for other in others:
        first.merge(other)
    return first


def test_any_grouping_order_and_repetition(
    classifier: ir.Model, encoder: TextEncoder, corpus: Corpus, counting: Counting, each: list[ShardSums]
) -> None:
    session = Session.of(classifier, counting.names)
    whole = count_shards(session, encoder, corpus, range(len(corpus.shards)), counting)
    rows = [row for n in range(len(corpus.shards)) for row in corpus.texts(n)]
    single = observe(
        classifier,
        batches_of(encoder, rows),
        counting.names,
        moments=counting.names,
        source="model",
        text="text",
    )
    assert_equal(observed(whole), single)
    rng = np.random.default_rng(0)
    for _ in range(5):
        order = [each[i] for i in rng.permutation(len(each))]
        order += [order[int(i)] for i in rng.integers(0, len(order), 6)]  # counted again, as after a lost node
        total = merged(order)
        assert_equal(observed(total), single)
        assert total.fingerprint() == whole.fingerprint() and sorted(total.shards) == list(range(len(corpus.shards)))
    halves = [merged(each[:5]), merged(each[5:]), merged(each[5:])]
    assert_equal(observed(merged(halves)), single)


def test_a_text_counts_as_often_as_it_stands_there(
    classifier: ir.Model, encoder: TextEncoder, counting: Counting, tmp_path: Path
) -> None:
    session = Session.of(classifier, counting.names)
    corpus = write_corpus(tmp_path / "twice.jsonl", lines=["the price", "rain", "the price"])
    assert count_shards(session, encoder, corpus, [0], counting).sums.samples == 3


def test_shards_that_overlap_in_part_are_refused(each: list[ShardSums]) -> None:
    with pytest.raises(SourceError, match="shard 1 of the corpus was counted together with others that are missing"):
        merged([merged(each[:2]), merged(each[1:3])])


def test_a_shard_that_changed_is_refused(each: list[ShardSums]) -> None:
    changed = copy.deepcopy(each[3])
    changed.shards[3] = "another"
    with pytest.raises(UsageError, match="shard 3 of the corpus changed"):
        merged([each[3], changed])


def test_more_tokens_than_sums_can_hold_are_refused(each: list[ShardSums]) -> None:
    large, other = copy.deepcopy(each[0]), copy.deepcopy(each[1])
    large.sums.tokens = (1 << 32) - 1
    with pytest.raises(SourceError, match="more than 4,294,967,296 tokens"):
        large.merge(other)


def test_a_row_with_an_infinite_activation_is_named(
    classifier: ir.Model, encoder: TextEncoder, corpus: Corpus, counting: Counting
) -> None:
    broken = classifier.clone()
    weight = next(v for n, v in broken.graph.initializers.items() if n.endswith("word_embeddings.weight"))
    table = weight.const_value.numpy().copy()
    ids = encoder([corpus.texts(2)[4][1]])["input_ids"][0]
    table[ids[1]] = np.inf
    weight.const_value = ir.tensor(table, name=weight.name)
    session = Session.of(broken, counting.names)
    with pytest.raises(SourceError, match=r"value .* is (NaN|infinite) on row \d+ of .*corpus\.jsonl"):
        count_shards(session, encoder, corpus, range(len(corpus.shards)), counting)
