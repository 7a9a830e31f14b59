"""Activations are observed on a corpus in shards, without what is held out, and the bundle says so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway.calibration.session import Session
from headway.calibration.shards_here import count_here
from headway.errors import UsageError
from headway.exporter.compress.corpus_steps import observe_corpus
from headway.exporter.compress.job import Job
from headway.exporter.compress.steps import run_pass
from headway.exporter.recipe.recipe import make_recipe

from tests.support.corpora import texts, write_corpus

QUANTIZE = [{"kind": "quantize"}]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus.jsonl")
    return tmp_path / "corpus.jsonl"


def values_of(job: Job) -> list[str]:
    return [str(p.input.name) for b in job.anatomy.blocks for p in b.projections][:2]


def test_threads_give_the_same_statistics(begin: Callable[..., Job], corpus: Path) -> None:
    found = []
    for workers in (1, 2):
        job = begin(QUANTIZE, calibration={"shards": [corpus], "workers": workers})
        found.append(observe_corpus(job, values_of(job), histograms=False))
    one, two = found
    assert one.describe() == two.describe() and one.samples == len(texts())
    for name, observation in one.values.items():
        assert np.array_equal(observation.moment, two.values[name].moment)


def test_what_is_held_out_is_not_observed(begin: Callable[..., Job], corpus: Path) -> None:
    job = begin([{"kind": "quantize", "search": True}], calibration={"shards": [corpus]})
    values, first = values_of(job), texts()
    without = observe_corpus(job, values, histograms=False)
    assert job.given.choice is not None
    held_out = [job.given.quality.texts[0], job.given.choice.texts[0]]
    write_corpus(corpus, lines=first + held_out * 3)
    poisoned = observe_corpus(job, values, histograms=False)
    assert poisoned.samples == without.samples == len(first)
    for name, observation in without.values.items():
        assert np.array_equal(observation.moment, poisoned.values[name].moment)


def test_a_quantization_learns_from_the_corpus(begin: Callable[..., Job], corpus: Path) -> None:
    told: list[str] = []
    keys = {"calibration": {"shards": [corpus]}}
    job = begin(QUANTIZE, lambda name, **_: told.append(name), **keys)
    run_pass(job, job.given.recipe.passes[0])
    assert "observe the corpus" in told and "observe activations" not in told
    assert job.learned.observations is not None and job.learned.observations["samples"] == len(texts())
    assert job.learned.observations["text"] != job.given.text_fingerprint


def test_a_corpus_of_another_language_is_refused(begin: Callable[..., Job], corpus: Path) -> None:
    write_corpus(corpus, lines=["слово " * 9] * 40)
    job = begin(QUANTIZE, calibration={"shards": [corpus]})
    with pytest.raises(UsageError, match="becomes a known token"):
        observe_corpus(job, values_of(job), histograms=False)


def test_a_first_shard_without_text_is_passed_over(begin: Callable[..., Job], corpus: Path, tmp_path: Path) -> None:
    job = begin(QUANTIZE, calibration={"shards": [tmp_path / "a.jsonl", corpus]}, column=None)
    held_out = job.given.quality.texts
    write_corpus(tmp_path / "a.jsonl", lines=held_out[:3])
    assert observe_corpus(job, values_of(job), histograms=False).samples == len(texts())
    write_corpus(corpus, lines=held_out[:3])
    with pytest.raises(UsageError, match=r"a\.jsonl: holds no text but what is held out"):
        observe_corpus(job, values_of(job), histograms=False)


def test_settings_that_nothing_reads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="workers count shards, and no shards are given"):
        make_recipe("r", source="x", passes=QUANTIZE, data="d.txt", calibration={"workers": "ray"})
    with pytest.raises(UsageError, match=r"calibration\.shards is what quantize observes"):
        make_recipe("r", source="x", data="d.txt", calibration={"shards": ["a.parquet"]})
    with pytest.raises(UsageError, match="workers"):
        make_recipe("r", source="x", passes=QUANTIZE, calibration={"shards": ["a.parquet"], "workers": "dask"})


def test_without_ray_the_sentence_says_how_to_get_it(
    begin: Callable[..., Job], corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = begin(QUANTIZE, calibration={"shards": [corpus], "workers": "ray"})
    monkeypatch.setattr("headway.exporter.compress.corpus_steps.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'headway\[search\]'"):
        observe_corpus(job, values_of(job), histograms=False)


def test_a_cluster_is_sent_what_threads_here_work_with(
    begin: Callable[..., Job], corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra search is not installed")
    asked: list[str] = []

    def counts(address: str, sent: Any, weights: np.ndarray, on_shards: Callable[[int], None]) -> Any:
        asked.append(address)
        graph = corpus.with_name("model.onnx")
        graph.write_bytes(sent.graph)
        weights.tofile(graph.with_name("model.onnx.data"))
        on_shards(len(sent.corpus.shards))
        session = Session(graph, sent.counting.names, sent.readers)
        return count_here(session, encoder, sent.corpus, sent.counting)

    monkeypatch.setattr("headway.calibration.shards_on_ray.count_on_ray", counts)
    here = begin(QUANTIZE, calibration={"shards": [corpus]})
    there = begin(QUANTIZE, calibration={"shards": [corpus], "workers": "ray"})
    encoder, values = there.encoder, values_of(there)
    found = []
    for job in (here, there, there):
        found.append(observe_corpus(job, values, histograms=True))
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
        if len(found) == 1:
            monkeypatch.delenv("RAY_ADDRESS")
    assert asked == ["local", "10.0.0.1:6379"]
    for name, observation in found[0].values.items():
        assert observation.histogram == found[1].values[name].histogram
        assert np.array_equal(observation.moment, found[1].values[name].moment)


def test_a_bundle_names_its_corpus_without_its_place(corpus: Path) -> None:
    recipe = make_recipe("r", source="x", passes=QUANTIZE, data="d.txt", calibration={"shards": [corpus]})
    assert recipe.without_places().calibration.shards == [Path("corpus.jsonl")]
