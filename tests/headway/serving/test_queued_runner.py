"""Arrays through the queue: the same outputs as the runner itself gives."""

from pathlib import Path

import numpy as np
import pytest

import headway
from headway.errors import UsageError
from headway.runners.base import Limits
from headway.serving.queued_runner import QueuedRunner
from headway.serving.speed_table import SpeedTable
from headway.serving.token_queue import Lanes, TokenQueue, Waiting

TEXTS = ["the price of bread", "rain", "a small model of language runs with time"]


@pytest.fixture
def queued(embedder: Path):
    bundle = headway.open(embedder, threads=1)
    lanes = Lanes(2)
    per_token = frozenset(o.name for o in bundle.manifest.outputs if "sequence" in o.shape)
    queue = TokenQueue(bundle.runner, bundle.encoder.batch, SpeedTable((1,), (0.001,)), 64, 0.0, True, per_token)
    lanes.open_queue(queue)
    lanes.start()
    yield bundle, QueuedRunner(bundle.runner, lambda w: lanes.add(queue, w), per_token, 30.0)
    lanes.close(30)


def test_outputs_are_the_runner_s(queued) -> None:
    bundle, runner = queued
    feeds = bundle.encoder(TEXTS)
    expected, given = bundle.runner.run(feeds), runner.run(feeds)
    assert set(expected) == set(given)
    mask = feeds["attention_mask"] == 1
    for name, array in expected.items():
        assert given[name].shape == array.shape
        if name in runner._per_token:
            np.testing.assert_allclose(given[name][mask], array[mask], atol=1e-6)
            assert not given[name][~mask].any()
        else:
            np.testing.assert_allclose(given[name], array, atol=1e-6)


def test_padding_before_a_text_is_run_as_it_is(queued) -> None:
    bundle, runner = queued
    feeds = bundle.encoder(TEXTS)
    left = {name: array[:, ::-1].copy() for name, array in feeds.items()}
    waiting = runner.request(left, lambda _: None)
    assert waiting.feeds is not None and waiting.tokens == left["input_ids"].size
    name = "sentence_embedding"
    np.testing.assert_allclose(runner.run(left)[name], bundle.runner.run(left)[name], atol=1e-6)


def test_rows_of_several_texts_are_run_as_they_are() -> None:
    class Choosing:
        input_names, output_names, limits = ("input_ids",), ("logits",), Limits()

        def run(self, feeds):
            return {"logits": feeds["input_ids"].sum(axis=-1)}

    def run(waiting: Waiting) -> None:
        assert waiting.feeds is not None and waiting.lengths == [4] * 6
        waiting.results = [Choosing().run(waiting.feeds)]
        waiting.tell()

    ids = np.arange(24).reshape(2, 3, 4)
    given = QueuedRunner(Choosing(), run, frozenset(), 30.0).run({"input_ids": ids})
    assert np.array_equal(given["logits"], ids.sum(axis=-1))


def test_what_does_not_fit_the_model_is_refused(queued) -> None:
    _, runner = queued
    ids = np.ones((1, 3), np.int64)
    for feeds, says in [
        ({"input_ids": ids * 10**6}, "embeddings for the ids"),
        ({"input_ids": -ids}, "not negative"),
        ({"input_ids": ids, "attention_mask": ids[:, :2]}, "has the shape"),
        ({"input_ids": ids.astype(np.float32)}, "give integers"),
    ]:
        with pytest.raises(UsageError, match=says):
            runner.run(feeds)


def test_the_error_of_a_batch_is_raised_and_waiting_ends() -> None:
    class Nothing:
        input_names, output_names, limits = ("input_ids",), ("x",), Limits()

        def run(self, feeds):
            raise NotImplementedError

    def fail(waiting: Waiting) -> None:
        waiting.error = ValueError("broken")
        waiting.tell()

    ids = {"input_ids": np.ones((1, 3), np.int64)}
    with pytest.raises(ValueError, match="broken"):
        QueuedRunner(Nothing(), fail, frozenset(), 30.0).run(ids)
    kept: list[Waiting] = []
    with pytest.raises(TimeoutError):
        QueuedRunner(Nothing(), kept.append, frozenset(), 0.01).run(ids)
    assert kept[0].dropped
