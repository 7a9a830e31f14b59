"""Trimming in a compression: model, encoder and batches follow, and the figures are those of text held out."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headway.errors import UsageError
from headway.exporter.compress import vocabulary_steps
from headway.exporter.compress.job import Job
from headway.exporter.compress.vocabulary_steps import check_scripts_of, trim_vocabulary
from headway.exporter.graph.edit import dims
from headway.exporter.passes.token_use import unseen_share
from headway.exporter.recipe.pass_specs import TrimVocabularySpec
from headway.exporter.source.source import open_source

from tests.support import retrieval_models


def test_model_encoder_and_batches_follow(begin: Callable[..., Job]) -> None:
    job = begin([])
    before = [b.feeds["input_ids"].max() for b in job.batches]
    changes = trim_vocabulary(job, TrimVocabularySpec(tokens=100))
    kept = job.outcome.kept_tokens
    assert kept is not None and len(kept) <= 100 and changes["vocabulary"] == f"300 → {len(kept)} tokens"
    assert max(b.feeds["input_ids"].max() for b in job.batches) < len(kept) <= max(before)
    for model in (job.outcome.model, job.source_model):
        (table,) = [v for n, v in model.graph.initializers.items() if n.endswith("word_embeddings.weight")]
        assert dims(table) == [len(kept), 64]
    assert job.encoder.tokenizer.get_vocab_size() == len(kept)


def test_texts_that_judge_are_never_read_to_choose_tokens(
    begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = begin([])
    judged = set(job.given.quality.texts)
    encode = type(job.encoder).encode

    def guarded(encoder: object, texts: list[str], *rest: object) -> object:
        assert not judged & set(texts)
        return encode(encoder, texts, *rest)

    monkeypatch.setattr(type(job.encoder), "encode", guarded)
    monkeypatch.setattr(vocabulary_steps, "_difference", lambda *_: (1.0, 0.0, 0.0))
    trim_vocabulary(job, TrimVocabularySpec())
    assert job.outcome.vocabulary is not None and job.outcome.vocabulary["coverage"] == 1.0


def test_a_text_too_small_is_refused_and_changes_nothing(
    begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = begin([])
    before = job.encoder.tokenizer.get_vocab_size()
    monkeypatch.setattr("headway.exporter.passes.token_use.unseen_share", lambda rows, always: 0.5)
    with pytest.raises(UsageError, match="50 % of the tokens of a text stand in none of the other"):
        trim_vocabulary(job, TrimVocabularySpec())
    assert job.outcome.kept_tokens is None and job.encoder.tokenizer.get_vocab_size() == before
    assert unseen_share([[1], [2]], ()) == 1.0


def test_a_vocabulary_whose_ids_mean_more_is_not_trimmed(tmp_path: Path) -> None:
    source = open_source(str(retrieval_models.splade(tmp_path)))
    with pytest.raises(
        UsageError, match="trim_vocabulary gives tokens other ids, by which sparse-embedding models name"
    ):
        check_scripts_of(source, [TrimVocabularySpec()])
    check_scripts_of(source, [])
