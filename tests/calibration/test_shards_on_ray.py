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
from headway.calibration.shards_on_ray import Sent, count_on_ray


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
    return Sent.of(graph, readers, encoder, corpus, counting), weights, alone


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
