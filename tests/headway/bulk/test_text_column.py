"""Which column is the text."""

from pathlib import Path

import pytest

from headway.bulk.text_column import text_column
from headway.errors import UsageError

FILE = Path("rows.csv")


def test_the_usual_names_come_first_then_the_only_text() -> None:
    assert text_column(FILE, ["id", "review", "text"], ["review", "text"], None) == "text"
    assert text_column(FILE, ["id", "body"], ["body"], None) == "body"
    assert text_column(FILE, ["id", "text"], ["text"], "id") == "id"


@pytest.mark.parametrize(
    ("texts", "wanted", "says"),
    [
        (["a", "b"], None, "rows.csv: which column is the text"),
        ([], None, "which column is the text"),
        (["a"], "c", "no column 'c'; found a, b"),
    ],
)
def test_what_cannot_be_told_is_refused(texts: list[str], wanted: str | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        text_column(FILE, ["a", "b"], texts, wanted)
