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
