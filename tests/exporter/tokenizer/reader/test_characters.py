"""What the library does to single characters, in a table that says the same of any text."""

import json
import random

import numpy as np
import pytest
from tokenizers import normalizers, pre_tokenizers

from headway.errors import SourceError
from headway.exporter.tokenizer.check import unicode_lines
from headway.exporter.tokenizer.reader.characters import (
    CODE_POINTS,
    DENSE,
    SPARSE,
    Characters,
    Flag,
    Kind,
    apply,
    letters,
    read_characters,
    read_compositions,
)


def content(normalizer: object = None, pre_tokenizer: object = None) -> dict:
    """Return the parts of a `tokenizer.json` that the table is made of."""
    return {
        "normalizer": json.loads(normalizer.__getstate__()) if normalizer is not None else None,
        "pre_tokenizer": json.loads(pre_tokenizer.__getstate__()) if pre_tokenizer is not None else None,
    }


# Tables that test_compact.py reads as well: those with words, spaces and a sequence. Each takes seconds to read.
SHARED = {
    "bert": [normalizers.BertNormalizer()],
    "nfkd, lower": [normalizers.NFKD(), normalizers.Lowercase()],
    "nfd, lower, stripped": [normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()],
}


def shared(name: str) -> Characters:
    return read_characters(content(normalizers.Sequence(SHARED[name]), pre_tokenizers.BertPreTokenizer()), spaces=True)


@pytest.mark.parametrize("name", ["bert", "nfd, lower, stripped", pytest.param("nfkd, lower", marks=pytest.mark.slow)])
def test_the_table_normalizes_text_as_the_library_does(name: str) -> None:
    table, normalizer = shared(name), normalizers.Sequence(SHARED[name])
    for line in unicode_lines(3, 1000):
        assert apply(table, line) == normalizer.normalize_str(line), line


@pytest.mark.slow
@pytest.mark.parametrize(
    "normalizer",
    [normalizers.BertNormalizer(), normalizers.NFKD(), normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])],
    ids=["bert", "nfkd", "nfd, lower"],
)  # fmt: skip
def test_a_table_of_a_normalizer_alone_normalizes_as_the_library_does(normalizer) -> None:
    table = read_characters(content(normalizer))
    for line in unicode_lines(3, 1000):
        assert apply(table, line) == normalizer.normalize_str(line), line


def test_kinds_of_characters() -> None:
    table = shared("bert")
    assert table.kinds[ord("A")] == Kind.MAPPED and table.mapped[ord("A")] == "a"
    assert table.kinds[ord("a")] == Kind.SAME and table.kinds[ord("漢")] == Kind.SPACED
    assert table.kinds[0xAC00] == Kind.HANGUL and table.kinds[7] in (Kind.REMOVED, Kind.REMOVED_STARTER)


def test_separators_and_isolated_characters() -> None:
    flags = read_characters(content(pre_tokenizer=pre_tokenizers.BertPreTokenizer())).flags
    assert flags[ord(" ")] & Flag.SEPARATOR and flags[ord("!")] & Flag.ISOLATED and not flags[ord("x")]


def test_white_space_is_flagged_where_it_is_asked_for() -> None:
    assert not read_characters(content()).flags.any()
    flags = read_characters(content(), spaces=True).flags
    assert flags[ord(" ")] & Flag.SPACE and flags[ord("x")] & Flag.WORD and not flags[ord("x")] & Flag.SPACE


def test_a_normalizer_that_looks_beyond_a_character_is_refused() -> None:
    prepended = normalizers.Sequence([normalizers.NFD(), normalizers.Replace("ab", "c"), normalizers.Prepend("§")])
    with pytest.raises(SourceError, match="the normalizer changes"):
        read_characters(content(prepended))


def test_letters_and_numbers_of_byte_level_text() -> None:
    flags = letters()
    assert flags[ord("é")] & Flag.LETTER and flags[ord("٣")] & Flag.NUMBER and flags[0x2028] & Flag.SEPARATOR
    assert not flags[ord("!")]


def test_compositions_are_those_of_nfc() -> None:
    compositions = read_compositions()
    assert compositions[ord("e"), 0x301] == ord("é") and (0x1100, 0x1161) not in compositions
    together = normalizers.NFC().normalize_str
    some = random.Random(0).sample(sorted(compositions), 200)
    assert all(together(chr(a) + chr(b)) == chr(compositions[a, b]) for a, b in some)
    assert np.all([b > 0x2FF for _, b in compositions])


def test_every_plane_is_looked_at() -> None:
    """A plane without characters now may have some in a later Unicode, which has to be found out."""
    looked_at = np.bincount([code >> 16 for code in DENSE + SPARSE])
    assert len(looked_at) == CODE_POINTS >> 16 and looked_at.min() > 1000
