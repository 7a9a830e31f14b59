"""What the `tokenizers` library does to single characters, as tables for the reader in JavaScript.

    python -m headway.exporter.web_unicode        # writes exporter/web/unicode.json

Browsers know other versions of Unicode than the library, and lower-case by context where it goes character by character. So the
library itself is asked about every code point, and the answers travel with the page.
"""

import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "web" / "unicode.json"


def tables() -> dict[str, Any]:
    """Sets of code points as `[first, last, first, last, …]`, maps as `[[from, to …], …]`.

    `space`, `control`: what cleaning makes a space of, and drops. `accent`: what BERT strips of a decomposed text. `mark`: what
    the normaliser of accents alone strips. `punctuation`: what BERT makes words of its own of. `letter`, `number`: of the
    expression that cuts text for byte-level BPE. `lower`: a map. `newer`: characters that the library's normal forms do not know:
    of all others, every browser has the same normal forms, since those never change.
    """
    from tokenizers import normalizers, pre_tokenizers

    none: dict[str, Any] = {
        "clean_text": False,
        "handle_chinese_chars": False,
        "strip_accents": False,
        "lowercase": False,
    }
    clean = normalizers.BertNormalizer(**(none | {"clean_text": True})).normalize_str
    strip = normalizers.BertNormalizer(**(none | {"strip_accents": True})).normalize_str
    strip_marks = normalizers.StripAccents().normalize_str
    lower, decompose = normalizers.Lowercase().normalize_str, normalizers.NFKD().normalize_str
    words = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    runs = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    last = "\u0345"  # the highest combining class there is: what combines moves in front of it

    def newer(c: str) -> bool:
        return unicodedata.category(c) == "Cn" or decompose(last + c) != unicodedata.normalize("NFKD", last + c)

    return {
        "space": _ranges(lambda c: clean(c) == " " and c != " "),
        "control": _ranges(lambda c: clean(c) == ""),
        "accent": _ranges(lambda c: strip(c) == ""),
        "mark": _ranges(lambda c: strip_marks(c) == ""),
        "punctuation": _ranges(lambda c: len(words(f"a{c}a")) == 3),
        "letter": _ranges(lambda c: len(runs(f"a{c}a")) == 1),
        "number": _ranges(lambda c: len(runs(f"1{c}1")) == 1),
        "lower": _changes(lower),
        "newer": _ranges(newer),
    }


def characters() -> Iterator[str]:
    """Every character but surrogates."""
    return (chr(i) for i in range(sys.maxunicode + 1) if not 0xD800 <= i < 0xE000)


def _ranges(holds: Callable[[str], bool]) -> list[int]:
    return _as_ranges(ord(c) for c in characters() if holds(c))


def _as_ranges(numbers: Iterable[int]) -> list[int]:
    found: list[int] = []
    for number in numbers:
        if found and found[-1] == number - 1:
            found[-1] = number
        else:
            found += [number, number]
    return found


def _changes(to: Callable[[str], str]) -> list[list[int]]:
    return [[ord(c), *map(ord, new)] for c in characters() if (new := to(c)) != c]


if __name__ == "__main__":
    FILE.write_text(json.dumps(tables(), separators=(",", ":")) + "\n", encoding="utf-8")
