"""Shards counted on a cluster of several nodes on this machine: as one thread counts them, also where a node is lost."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from headway.calibration.session import Session, save_up_to
from headway.calibration.shard_sums import Counting, ShardSums, count_shards
from headway.errors import TargetError, UsageError

from tests.support.corpora import encoder_of, write_corpus
from tests.support.ray_clusters import add_node

pytest.importorskip("ray", reason="the extra search is not installed")
from headway.calibration.shards_on_ray import Sent, _count, _groups, _merge, _opened, count_on_ray


@pytest.fixture(scope="module")
def sent(
    classifier: ir.Model, values: list[str], bert_classifier: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Sent, np.ndarray, ShardSums]:
    """Return what a cluster is sent, the weights, and what one thread counts."""
    folder = tmp_path_factory.mktemp("sent")
    encoder, corpus = encoder_of(bert_classifier, folder), write_corpus(folder / "corpus.jsonl")
    counting = Counting(tuple(values), frozenset(values), True)
    graph = folder / "model.onnx"
    readers = save_up_to(classifier, counting.names, graph)
    weights = np.fromfile(folder / "model.onnx.data", np.uint8)
    alone = count_shards(Session(graph, counting.names, readers), encoder, corpus, range(len(corpus.shards)), counting)
    return Sent.of(graph, weights, readers, encoder, corpus, counting), weights, alone


def assert_same(found: ShardSums, alone: ShardSums) -> None:
    assert found.shards == alone.shards and found.fingerprint() == alone.fingerprint()
    assert (found.sums.samples, found.sums.tokens) == (alone.sums.samples, alone.sums.tokens)
    for name, histogram in alone.sums.histograms.items():
        assert found.sums.histograms[name] == histogram
        assert np.array_equal(found.sums.moments[name].second_moment(), alone.sums.moments[name].second_moment())
        assert np.array_equal(found.sums.drawn[name].rows, alone.sums.drawn[name].rows)


@pytest.mark.slow
def test_a_lost_node_changes_nothing(cluster: Any, sent: tuple[Sent, np.ndarray, ShardSums]) -> None:
    nodes = [add_node(cluster), add_node(cluster)]
    told: list[int] = []

    def on_shards(count: int) -> None:
        told.append(count)
        if len(told) == 1:
            cluster.remove_node(nodes.pop(), allow_graceful=False)

    message, weights, alone = sent
    assert_same(count_on_ray("auto", message, weights, on_shards), alone)
    assert told == sorted(told) and told[-1] == len(message.corpus.shards)
    cluster.remove_node(nodes.pop(), allow_graceful=False)


def test_tasks_count_and_merge_as_one_thread_does(sent: tuple[Sent, np.ndarray, ShardSums]) -> None:
    """What a process of the cluster is asked for, in this one."""
    message, weights, alone = sent
    parts = []
    for numbers in _groups(len(message.corpus.shards), 1):
        count, sums = _count(message, weights, numbers)
        assert count == len(numbers)
        parts.append(sums)
    assert len(parts) > 1
    before = parts[0].fingerprint()
    shards, merged = len(parts[0].shards), parts[0]
    for part in parts[1:]:
        shards, merged = _merge(merged, part)
    assert shards == len(message.corpus.shards) and parts[0].fingerprint() == before
    assert_same(merged, alone)
    with pytest.raises(TargetError, match=r"a node has Headway .*, and this machine 9\.9: install the same"):
        _count(replace(message, version="9.9"), weights, range(1))


def test_a_process_opens_what_was_sent_once(sent: tuple[Sent, np.ndarray, ShardSums]) -> None:
    message, weights, _ = sent
    opened = _opened(message, weights)
    assert _opened(replace(message), weights) is opened
    assert _opened(replace(message, key=b"other"), weights) is not opened


def test_another_graph_or_other_weights_have_another_key(
    sent: tuple[Sent, np.ndarray, ShardSums], bert_classifier: Path, tmp_path: Path
) -> None:
    message, weights, _ = sent
    encoder, graph = encoder_of(bert_classifier, tmp_path), tmp_path / "model.onnx"

    def key(model: bytes, given: np.ndarray) -> bytes:
        graph.write_bytes(model)
        return Sent.of(graph, given, message.readers, encoder, message.corpus, message.counting).key

    assert key(message.graph, weights) == message.key
    changed = weights.copy()
    changed[-1] ^= 1
    assert len({message.key, key(message.graph, changed), key(message.graph + b"x", weights)}) == 3


@pytest.mark.slow
def test_a_node_counts_as_a_thread_here_and_says_what_fails(
    cluster: Any, sent: tuple[Sent, np.ndarray, ShardSums]
) -> None:
    node = add_node(cluster)
    message, weights, alone = sent
    assert_same(count_on_ray("auto", message, weights), alone)
    changed = replace(message.corpus, states=((0, 0), *message.corpus.states[1:]))
    with pytest.raises(UsageError, match=r"corpus\.jsonl: is another file on"):
        count_on_ray("auto", replace(message, corpus=changed), weights)
    with pytest.raises(TargetError, match=r"a node has Headway .*, and this machine 9\.9: install the same"):
        count_on_ray("auto", replace(message, version="9.9"), weights)
    cluster.remove_node(node, allow_graceful=False)
