"""Very long texts: the same ids as of the whole, from a small part of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from headway.long_text import shorten
from headway.manifest import TokenizerInfo
from headway.text import TextEncoder

from tests.support import models

LIMIT = 16
KINDS = {
    "words": "the price of bread and rain with time " * 3000,
    "one word": "bread" * 20000,
    "blanks first": " " * 60000 + "the price of bread " * 4000,
    "blanks alone": " \n" * 50000,
    "accents": "é́è̂ñ 汉字 " * 10000,
}


class Counting:
    """A tokenizer that counts the characters that it reads."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer, self.read = tokenizer, 0

    def encode(self, text: str, **options: bool) -> Any:
        self.read += len(text)
        return self.tokenizer.encode(text, **options)


@pytest.fixture(scope="module", params=["bert", "roberta", "xlm-roberta"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    models.make_tokenizer(folder, request.param)
    return TextEncoder(folder / "tokenizer.json", TokenizerInfo("tokenizer.json", LIMIT, 0, 0, "[PAD]"))


@pytest.mark.parametrize("text", KINDS.values(), ids=KINDS.keys())
def test_the_tokens_that_are_kept_are_those_of_the_whole(text: str, encoder: TextEncoder) -> None:
    whole = encoder._whole.encode(text, add_special_tokens=False).ids
    (cls, *ids, sep) = encoder.encode([text])[0].ids
    assert ids == whole[: LIMIT - 2] and (cls, sep) == (1, 2)


def test_a_long_text_is_read_in_a_small_part_and_a_short_one_not_at_all(encoder: TextEncoder) -> None:
    counting = Counting(encoder._whole)
    text = KINDS["words"] * 20
    part = shorten(counting, text, LIMIT)
    assert 0 < counting.read < len(text) / 50 and len(part) < len(text) / 50 and text.startswith(part)
    counting.read = 0
    assert shorten(counting, text[:20000], LIMIT) == text[:20000]
    assert counting.read == 0


def test_both_texts_of_a_pair_are_cut(encoder: TextEncoder) -> None:
    encoder = TextEncoder(encoder.path, replace(encoder.info, max_length=200))
    long, short = KINDS["words"], "rain with time"
    longer = "the price of bread and rain with time " * 100  # which is not cut
    for pair, same in (
        ((long, short), (longer, short)),
        ((short, long), (short, longer)),
        ((long, long), (longer, longer)),
    ):
        assert encoder.encode([pair])[0].ids == encoder.encode([same])[0].ids
