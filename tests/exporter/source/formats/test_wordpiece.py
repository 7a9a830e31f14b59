"""A vocabulary of WordPiece makes BERT's tokenizer."""

from pathlib import Path

import pytest

from headway.errors import SourceError
from headway.exporter.source.formats.wordpiece import wordpiece

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "rain", "##s"]


def test_roles_are_completed() -> None:
    special = {"pad_token": "[PAD]"}
    tokenizer = wordpiece(Path("a"), PIECES, special)
    assert tokenizer.encode("RAINS", "rain").tokens == ["[CLS]", "rain", "##s", "[SEP]", "rain", "[SEP]"]
    assert special == {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}


def test_capitals_are_refused() -> None:
    with pytest.raises(SourceError, match="nothing here says how a text is normalized"):
        wordpiece(Path("a"), [*PIECES, "Rain"], {})


@pytest.mark.parametrize("piece", ["für", "##é", "が"])
def test_accents_are_refused(piece: str) -> None:
    """Where they are stripped from texts, no text gives such a piece."""
    with pytest.raises(SourceError, match=f"the token '{piece}' has accents"):
        wordpiece(Path("a"), [*PIECES, piece], {})


@pytest.mark.parametrize(
    ("lowercase", "strip_accents", "tokens"),
    [
        (True, None, ["rain", "[UNK]", "[UNK]"]),
        (True, False, ["rain", "für", "für"]),
        (False, None, ["Rain", "für", "Für"]),
        (False, True, ["Rain", "[UNK]", "[UNK]"]),
    ],
)
def test_texts_are_normalized_as_a_file_says(lowercase: bool, strip_accents: bool | None, tokens: list[str]) -> None:
    pieces = [*PIECES, "Rain", "für", "Für"]
    tokenizer = wordpiece(Path("a"), pieces, {}, lowercase=lowercase, strip_accents=strip_accents)
    assert tokenizer.encode("Rain für Für").tokens[1:-1] == tokens


def test_capitals_are_refused_where_a_file_speaks_of_accents_alone() -> None:
    with pytest.raises(SourceError, match="'Für' has capitals"):
        wordpiece(Path("a"), [*PIECES, "für", "Für"], {}, strip_accents=False)


@pytest.mark.parametrize("piece", ["[CITE]", "<ent>", "##a.b"])
def test_what_no_text_is_cut_into_is_refused_where_nothing_says_how_it_is_found(piece: str) -> None:
    with pytest.raises(SourceError, match="nothing here says how it is found"):
        wordpiece(Path("a"), [*PIECES, piece], {})
    wordpiece(Path("a"), [*PIECES, "[unused7]", ".", "##!"], {})
    assert piece not in wordpiece(Path("a"), [*PIECES, piece], {}, control=[]).encode(f"a {piece}").tokens


def test_added_tokens_are_found_before_a_text_is_cut() -> None:
    tokenizer = wordpiece(Path("a"), [*PIECES, "<ent>", "COVID"], {}, control=["<ent>"], added=["COVID"])
    assert tokenizer.encode("rain <ent>covid").ids == [2, 4, 6, 7, 3]
