"""A bundle's tokenizer gives the ids of sentence-transformers' WhitespaceTokenizer, or is refused."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer

from headway.errors import SourceError
from headway.exporter.source.whitespace_tokenizer import read_whitespace_tokenizer

WORDS = [
    "PADDING_TOKEN", "apple", "Apple", "APPLE", "u.s.", "U.S.", "u.s", ",", "...", "--", "don't", "the", "The", "'s", "n't",
    "foo-Bar", "foo-bar", "ας", "über", "ÜBER", "(a)", "a", "I", "$5", "-rrb-", "new_york", "é", "stop", "Stop.", ".", "x", "X.",
]  # fmt: skip
OTHERS = [
    "aPPle",
    "U.s.",
    "..",
    "---",
    "DON'T",
    "THE",
    "FOO-BAR",
    "ΑΣ",
    "ΑΣ,",
    "Über",
    "(A)",
    "i",
    "STOP.",
    "unknown",
    "padding_token",
]


def saved(directory: Path, **content: Any) -> Path:
    (directory / "whitespacetokenizer_config.json").write_text(json.dumps(content))
    return directory


def texts(count: int) -> list[str]:
    choose = random.Random(1)
    ends = ["", "(", "'", '"--', "", ".", ",", ")!?"]
    made = ["", "  "]
    for _ in range(count):
        words = [choose.choice(ends) + choose.choice(WORDS + OTHERS) + choose.choice(ends) for _ in range(5)]
        made.append(choose.choice(["", " "]) + choose.choice([" ", "  ", "\t", "\x1c", "\u3000 "]).join(words))
    return made


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("stop", [[], ["the", "stop", "...", "Apple"], ["PADDING_TOKEN"]], ids=len)
@pytest.mark.parametrize("first", [0, 1, 11])
def test_ids_are_those_of_the_library(first: int, stop: list[str], lower: bool, tmp_path: Path) -> None:
    words = WORDS[first:]
    own = WhitespaceTokenizer(words, stop_words=stop, do_lower_case=lower)
    tokenizer = read_whitespace_tokenizer(
        saved(tmp_path, vocab=words, stop_words=stop, do_lower_case=lower), len(words)
    )
    differ = [t for t in texts(200) if own.tokenize(t) != tokenizer(t)["input_ids"]]
    assert not differ, differ[:3]


def test_stop_words_are_the_library_s_where_the_file_has_none(tmp_path: Path) -> None:
    words = ["the", "apple", "is", "new", "york", "New York"]
    own = WhitespaceTokenizer(words)
    tokenizer = read_whitespace_tokenizer(saved(tmp_path, vocab=words), len(words))
    for text in ("the apple is", "New York", "new york is new"):
        assert tokenizer(text)["input_ids"] == own.tokenize(text)
    assert tokenizer("the apple is")["input_ids"] == [1]


def test_private_characters_of_a_text_stand_for_no_word(tmp_path: Path) -> None:
    tokenizer = read_whitespace_tokenizer(saved(tmp_path, vocab=WORDS), 100)
    assert tokenizer("\U000f0000apple apple")["input_ids"] == [1]


def test_damaged_vocabularies_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content, says in (
        ({"vocab": WORDS}, f"{len(WORDS)} words, and the embeddings have 5 rows"),
        ({"vocab": {"a": 1}}, "vocab: a list of words"),
        ({"vocab": ["a"], "stop_words": [1]}, "stop_words: a list of words"),
        ({"vocab": []}, "has no word"),
        ({"vocab": ["a", ""]}, "has an empty word"),
    ):
        with pytest.raises(SourceError, match=r"whitespacetokenizer_config\.json") as caught:
            read_whitespace_tokenizer(saved(tmp_path, **content), 5)
        assert says in str(caught.value)
    monkeypatch.setattr("headway.exporter.source.whitespace_tokenizer._MOST_MARKED", 3)
    with pytest.raises(SourceError, match="write the vocabulary in lower case"):
        read_whitespace_tokenizer(saved(tmp_path, vocab=WORDS), 100)
    with pytest.raises(SourceError, match="copy it beside"):
        read_whitespace_tokenizer(tmp_path / "elsewhere", 100)
