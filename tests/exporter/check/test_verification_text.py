"""The texts that an artifact is compared on, and what they must catch."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from headway.errors import GateError, SourceError
from headway.exporter.capture.base import Answers, NotRunError
from headway.exporter.check.parity import Case
from headway.exporter.check.verification_text import (
    ODD,
    answers,
    left_padded,
    pads_left,
    special_texts,
    text_cases,
    verification_cases,
)
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.source import open_source
from headway.exporter.source.tokenizer import source_encoder
from headway.text import TextEncoder


@pytest.fixture
def encoder(bert: Path, tmp_path: Path) -> TextEncoder:
    return source_encoder(open_source(str(bert)), tmp_path)


def by_name(cases: list[Case], part: str) -> Case:
    return next(c for c in cases if part in c.name)


def test_single_texts(encoder: TextEncoder) -> None:
    cases = text_cases(encoder, "feature-extraction")
    assert by_name(cases, "empty").texts == ("",) and by_name(cases, "empty").feeds["input_ids"].shape == (1, 2)
    assert by_name(cases, "odd").texts == ODD
    assert any(any(c.isupper() for c in t) for t in ODD) and any("é" in t for t in ODD)
    lengths = by_name(cases, "maximum").feeds["attention_mask"].sum(axis=1)
    assert lengths.tolist() == [64, 64]
    full, beyond = by_name(cases, "maximum").texts
    untruncated = [len(e.ids) for e in encoder._whole.encode_batch([full, beyond])]
    assert untruncated[0] == 64 and untruncated[1] > 64
    assert not any("pairs" in c.name for c in cases)


def test_every_special_and_added_token_is_in_a_text(encoder: TextEncoder) -> None:
    encoder.tokenizer.add_tokens([f"<extra_{i}>" for i in range(20)])
    texts = special_texts(encoder, 64)
    ids = {i for e in encoder.encode(texts) for i in e.ids}
    assert set(encoder.tokenizer.get_added_tokens_decoder()) <= ids and len(ids) > 25


@pytest.mark.parametrize(
    ("task", "pairs", "alone"),
    [("text-classification", False, False), ("text-classification", True, True), ("question-answering", False, True)],
)
def test_pairs_where_the_task_takes_them(encoder: TextEncoder, task: str, pairs: bool, alone: bool) -> None:
    cases = text_cases(encoder, task, pairs=pairs)
    both = by_name(cases, "pairs, some beyond")
    assert all(isinstance(t, tuple) for t in both.texts)
    lengths = [len(e.ids) for e in encoder._whole.encode_batch(list(both.texts))]
    assert max(lengths) > 64 >= both.feeds["attention_mask"].sum(axis=1).max()
    assert all(isinstance(t, tuple) for c in cases for t in c.texts) == alone


def test_choices_have_two_options(encoder: TextEncoder) -> None:
    for case in text_cases(encoder, "multiple-choice"):
        assert case.feeds["input_ids"].shape[:2] == (len(case.texts) // 2, 2)


def test_padding_on_the_left_where_the_tokenizer_pads_there(bert: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(bert, tmp_path / "model"))
    source, lines = open_source(str(directory)), ["rain", "the price of bread and rain"]
    encoder = source_encoder(source, tmp_path)
    assert not pads_left(tmp_path)
    assert not any("left" in c.name for c in verification_cases(encoder, lines, source, tmp_path))
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": "left"}))
    encoder = source_encoder(source, tmp_path)
    assert pads_left(tmp_path)
    cases = verification_cases(encoder, lines, source, tmp_path)
    case = by_name(cases, "on the left")
    assert "mixed lengths, padded" in case.name and case.feeds["attention_mask"][0].tolist()[-1] == 1
    assert case.feeds["attention_mask"][0, 0] == 0


def test_moving_padding_keeps_the_tokens() -> None:
    feeds = {"input_ids": np.array([[5, 6, 9], [7, 8, 4]]), "attention_mask": np.array([[1, 1, 0], [1, 1, 1]])}
    moved = left_padded(Case("a", feeds), pad_id=9).feeds
    assert moved["input_ids"].tolist() == [[9, 5, 6], [7, 8, 4]]
    assert moved["attention_mask"].tolist() == [[0, 1, 1], [1, 1, 1]]


class Library:
    """A reference that answers with ids given to it."""

    judge = "a library 1.0"

    def __init__(self, *ids: list[int]):
        self.ids = [np.array(row) for row in ids]

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"y": feeds["input_ids"]}

    def from_text(self, texts: tuple) -> Answers:
        return Answers(self.ids, {"y": np.zeros((len(texts), 2))})


def test_other_ids_than_the_librarys_are_an_error_that_names_the_text() -> None:
    feeds = {"input_ids": np.array([[5, 6], [7, 0]]), "attention_mask": np.array([[1, 1], [1, 0]])}
    case = Case("texts", feeds, ("one", "two"))
    plain = Case("ids", feeds)
    outputs = answers(Library([5, 6], [7]), [case, plain]).outputs  # type: ignore[arg-type]
    assert outputs[0]["y"].shape == (2, 2) and outputs[1]["y"] is feeds["input_ids"]
    for second in ([8], [7, 7], []):
        with pytest.raises(GateError, match=r"does not give the ids of a library 1\.0 for 'two'"):
            answers(Library([5, 6], second), [case])  # type: ignore[arg-type]


class Picky(Library):
    """A library whose model does not run on texts of some lengths."""

    def __init__(self, *lengths: int):
        self.lengths = lengths

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if feeds["input_ids"].shape[1] in self.lengths:
            raise NotRunError("each text needs an end")
        return {"y": feeds["input_ids"]}


def test_cases_that_the_source_refuses_are_left_out_and_named() -> None:
    cases = [Case(f"{n} tokens", {"input_ids": np.zeros((1, n), np.int64)}) for n in (1, 2, 3, 4)]
    answered = answers(Picky(1, 3), cases)  # type: ignore[arg-type]
    assert [c.name for c in answered.cases] == ["2 tokens", "4 tokens"]
    assert [o["y"].shape[1] for o in answered.outputs] == [2, 4]
    assert answered.sentences[0] == "not compared on '1 tokens', since each text needs an end"
    with pytest.raises(SourceError, match="each text needs an end"):
        answers(Picky(1, 2, 3), cases)  # type: ignore[arg-type]


def test_a_bundle_with_another_limit_than_its_source_is_not_written(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headway.exporter.source.source import Source

    limits = iter([32])
    longest = Source.longest.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(Source, "longest", property(lambda self: next(limits, None) or longest(self)))
    with pytest.raises(GateError, match="32 tokens, not"):
        export(Recipe(source=str(bert)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
