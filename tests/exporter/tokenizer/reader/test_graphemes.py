"""How characters join, and the replacements of sentencepiece's normalizer."""

import pytest

from headway.exporter.tokenizer.reader.graphemes import Join, read_joins, read_replacements

from tests.support.tokenizers_of import charsmap


@pytest.mark.parametrize(
    ("char", "join"),
    [
        ("a", Join.OTHER),
        ("\n", Join.CONTROL),
        ("\u00ad", Join.CONTROL),
        ("\u0600", Join.PREPENDS),
        ("©", Join.PICTOGRAPH),
        ("\u0915", Join.CONSONANT),
        ("\u1100", Join.L),
        ("\u1161", Join.V),
        ("\u11a8", Join.T),
        ("가", Join.LV),
        ("각", Join.LVT),
    ],
)
def test_classes_of_uax_29(char: str, join: Join) -> None:
    assert read_joins()[ord(char)] == join


@pytest.mark.parametrize(
    ("char", "bits"),
    [
        ("\u0301", Join.KEEPS_PICTOGRAPH | Join.KEEPS_CONSONANT),
        ("\u094d", Join.LINKS),
        ("\u200d", Join.KEEPS_CONSONANT),
    ],
)
def test_what_extends_a_cluster(char: str, bits: int) -> None:
    joins = int(read_joins()[ord(char)])
    assert joins & Join.EXTENDS and joins & bits == bits


def test_replacements_read_back() -> None:
    replacements = {"ab": "x", "ﬁ": "fi", "①": "1", "z": ""}
    read = read_replacements(charsmap(replacements))
    assert read == {k.encode(): v.encode() for k, v in replacements.items()}
