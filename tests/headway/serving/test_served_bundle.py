"""A bundle that serves: opened whole, the bundle's own answers, limits, and clients that leave."""

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headway
from headway.errors import SourceError
from headway.serving.refusal import Refusal
from headway.serving.served_bundle import EMBEDDING, OpenedBundle, ServedBundle, mixes_lengths, table_record, tell_in
from headway.serving.speed_table import SpeedTable
from headway.serving.token_queue import Lanes

from tests.support.served import settings_of

TEXTS = ["the price of bread", "rain", "a small model of language runs with time"]


@pytest.fixture(scope="module")
def opened(embedder: Path) -> OpenedBundle:
    return OpenedBundle("embedder", embedder, settings_of())


def served(opened: OpenedBundle, work: Callable[[ServedBundle], Coroutine[Any, Any, Any]], **changes: Any) -> Any:
    """Return what a coroutine gives that uses the bundle."""

    async def run() -> Any:
        lanes = Lanes(2, tell_in(asyncio.get_running_loop()))
        with ThreadPoolExecutor(2) as threads, ThreadPoolExecutor(2) as callers:
            bundle = ServedBundle(opened, settings_of(**changes), lanes, threads, callers)
            lanes.start()
            try:
                return await work(bundle)
            finally:
                await asyncio.to_thread(lanes.close, 30)

    return asyncio.run(run())


def test_answers_are_the_bundle_s(opened: OpenedBundle, embedder: Path) -> None:
    async def work(bundle: ServedBundle) -> Any:
        results, waiting = await bundle.run(await bundle.encode(TEXTS))
        assert waiting.tokens == sum(len(e.ids) for e in bundle.encoder.encode(TEXTS))
        return np.stack([result[EMBEDDING] for result in results])

    np.testing.assert_allclose(served(opened, work), headway.open(embedder)(TEXTS)[EMBEDDING], atol=1e-6)


def test_many_at_once_get_their_own_answers(opened: OpenedBundle, embedder: Path) -> None:
    texts = [f"{'bread ' * (n % 20)}{n} price" for n in range(60)]

    async def one(bundle: ServedBundle, text: str) -> np.ndarray:
        results, _ = await bundle.run(await bundle.encode([text]))
        return results[0][EMBEDDING]

    async def work(bundle: ServedBundle) -> Any:
        return await asyncio.gather(*(one(bundle, text) for text in texts))

    np.testing.assert_allclose(np.stack(served(opened, work)), headway.open(embedder)(texts)[EMBEDDING], atol=1e-6)


def test_calls_of_the_bundle_wait_in_the_same_queue(tagger: Path) -> None:
    opened = OpenedBundle("tagger", tagger, settings_of())

    async def work(bundle: ServedBundle) -> Any:
        return await bundle.call(lambda b: b.entities(TEXTS))

    given, expected = served(opened, work), headway.open(tagger).entities(TEXTS)
    assert [[e | {"score": 0} for e in row] for row in given] == [[e | {"score": 0} for e in row] for row in expected]


def test_a_text_that_is_too_long_is_refused_or_cut(opened: OpenedBundle) -> None:
    long = ["rain", "bread " * 100]

    async def work(bundle: ServedBundle, truncate: bool | None) -> list[int]:
        return [len(e.ids) for e in await bundle.encode(long, truncate)]

    with pytest.raises(Refusal, match="text 1 has more than the 64 tokens") as refused:
        served(opened, lambda b: work(b, None))
    assert refused.value.status == 413
    assert served(opened, lambda b: work(b, True))[1] == 64 == served(opened, lambda b: work(b, None), truncate=True)[1]
    with pytest.raises(Refusal, match="text 1"):
        served(opened, lambda b: work(b, False), truncate=True)


def test_texts_that_are_none_are_refused(opened: OpenedBundle) -> None:
    with pytest.raises(Refusal, match="surrogate"):
        served(opened, lambda b: b.encode(["\ud800"]))

    async def wrong(bundle: ServedBundle) -> Any:
        return await bundle.call(lambda b: b.labels(["rain"]))

    with pytest.raises(Refusal, match="text-classification is needed"):
        served(opened, wrong)

    async def outside(bundle: ServedBundle) -> Any:
        return await bundle.run_tensors({"input_ids": np.full((1, 2), 10**6)})

    with pytest.raises(Refusal, match="embeddings for the ids"):
        served(opened, outside)


def test_an_answer_that_takes_too_long_is_given_up(opened: OpenedBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(bundle: ServedBundle) -> Any:
        bundle._lanes.add = lambda *_: None  # type: ignore[method-assign]  # it never comes to a lane
        return await bundle.run(await bundle.encode(["rain"]))

    with pytest.raises(Refusal, match="did not answer within") as refused:
        served(opened, work, timeout=0.05)
    assert refused.value.status == 504


def test_a_request_whose_client_left_is_not_run(opened: OpenedBundle) -> None:
    async def work(bundle: ServedBundle) -> Any:
        kept: list[Any] = []
        bundle._lanes.add = lambda queue, waiting, most: kept.append(waiting)  # type: ignore[method-assign, assignment]
        encodings = await bundle.encode(["rain"])
        task = asyncio.ensure_future(bundle.run(encodings))
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait({task})
        return kept[0].dropped

    assert served(opened, work)


@pytest.mark.parametrize("name", ["model.onnx", "config.json", "tokenizer.json"])
def test_a_damaged_bundle_is_not_opened(embedder: Path, tmp_path: Path, name: str) -> None:
    damaged = Path(shutil.copytree(embedder, tmp_path / "damaged"))
    content = bytearray((damaged / name).read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / name).write_bytes(content)
    with pytest.raises(SourceError):
        OpenedBundle("damaged", damaged, settings_of())


def test_what_is_opened_was_measured(opened: OpenedBundle) -> None:
    assert opened.budget in opened.table.sizes and opened.wait >= 0
    assert opened.sha256 == opened.manifest.files["model.onnx"]["sha256"]
    assert table_record(SpeedTable((16,), (0.0015,))) == [{"tokens": 16, "ms": 1.5}]


def test_outputs_per_token_bound_the_batch(
    opened: OpenedBundle, embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headway.serving import served_bundle

    monkeypatch.setattr(served_bundle, "_MOST_OUTPUT", 4 * 32 * 10)
    assert OpenedBundle("few", embedder, settings_of()).budget == 10  # last_hidden_state has 32 float32 for each token


def test_lengths_mix_where_it_changes_nothing(opened: OpenedBundle) -> None:
    assert mixes_lengths(opened.manifest)
    assert not mixes_lengths(replace(opened.manifest, session_options={}))
    assert mixes_lengths(replace(opened.manifest, session_options={"kernels": True}))
