"""Shards counted by threads: as one thread counts them."""

from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import pytest

from headway.calibration.session import Session
from headway.calibration.shard_sums import Counting, count_shards
from headway.calibration.shards_here import count_here
from headway.errors import UsageError

from tests.support.corpora import encoder_of, write_corpus


def test_any_number_of_threads(classifier: ir.Model, values: list[str], bert_classifier: Path, tmp_path: Path) -> None:
    encoder, corpus = encoder_of(bert_classifier, tmp_path), write_corpus(tmp_path / "corpus.jsonl")
    counting = Counting(tuple(values), frozenset(values), False)
    session = Session.of(classifier, counting.names)
    alone = count_shards(session, encoder, corpus, range(len(corpus.shards)), counting)
    told: list[None] = []
    for workers in (1, 3, 40):  # more than there are shards
        told.clear()
        found = count_here(session, encoder, corpus, counting, workers, lambda: told.append(None))
        assert len(told) == len(corpus.shards) and found.shards == alone.shards
        for name, moments in alone.sums.moments.items():
            assert (found.sums.moments[name].second_moment() == moments.second_moment()).all()


def test_an_error_ends_all_threads(
    classifier: ir.Model, values: list[str], bert_classifier: Path, tmp_path: Path
) -> None:
    encoder, corpus = encoder_of(bert_classifier, tmp_path), write_corpus(tmp_path / "corpus.jsonl", rows=2)
    counting = Counting(tuple(values), frozenset(), False)
    broken = replace(corpus, states=((0, 0), *corpus.states[1:]))
    told: list[None] = []
    with pytest.raises(UsageError, match="is another file on"):
        count_here(Session.of(classifier, values), encoder, broken, counting, 2, lambda: told.append(None))
    assert len(told) < len(corpus.shards)
