"""Tell the script of text: latin, cyrillic, cjk and others, as Unicode names them."""

import unicodedata
from collections import Counter
from collections.abc import Collection
from functools import cache

COMMON = "common"
"""What is counted as the script of text without letters."""

_LOOKED_AT = 200
"""So many characters tell what a text is written in."""


def script(text: str) -> str:
    """Return the script that most letters of a text are of."""
    letters = Counter(_script_of(c) for c in text if c.isalpha())
    return letters.most_common(1)[0][0] if letters else COMMON


def mostly_in(text: str, scripts: Collection[str]) -> bool:
    """Return True where more than half of a text's first letters are of one of `scripts`."""
    letters = [_script_of(c) for c in text[:_LOOKED_AT] if c.isalpha()]
    return 2 * sum(name in scripts for name in letters) > len(letters)


@cache
def _script_of(letter: str) -> str:
    first = unicodedata.name(letter, COMMON).split()[0].split("-")[0].lower()
    return {"fullwidth": "latin", "halfwidth": "katakana", "modifier": COMMON}.get(first, first)
