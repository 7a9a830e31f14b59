"""The script of text."""

import pytest

from headway.scripts import mostly_in, script


@pytest.mark.parametrize(
    ("text", "name"),
    [("word", "latin"), ("Straße", "latin"), ("слово", "cyrillic"), ("漢字", "cjk"), ("12", "common"), ("…", "common")],
)
def test_script_of_a_text(text: str, name: str) -> None:
    assert script(text) == name


def test_more_than_half_of_the_letters_decide() -> None:
    assert mostly_in("слово a", ["cyrillic"]) and not mostly_in("слово", ["greek"])
    assert not mostly_in("да no", ["cyrillic"]) and mostly_in("да n", ["cyrillic", "greek"])
    assert not mostly_in("12 …", ["cyrillic", "common"]) and not mostly_in("", ["cyrillic"])
