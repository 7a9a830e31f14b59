"""Write what the `tokenizers` library does to single characters, as tables for the reader in JavaScript.

    python -m headway.exporter.targets.web.unicode        # writes exporter/targets/web/page/unicode.json

Browsers have other versions of Unicode than the library, and lower-case by context where it goes character by character. So the
library itself is run on every code point, and the results are shipped with the page.
"""

import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ...tokenizer.reader.characters import CODES, Characters, Flag, Kind, letters, read_characters

FILE = Path(__file__).parent / "page" / "unicode.json"


def tables() -> dict[str, Any]:
    """Return sets of code points as `[first, last, first, last, …]` and maps as `[[from, to …], …]`.

    `space`, `control`: what cleaning replaces by a space, and removes. `accent`: what BERT strips from decomposed text. `mark`: what
    the normalizer of accents alone strips. `punctuation`: what BERT makes separate words. `letter`, `number`: those of the expression
    that splits text for byte-level BPE. `lower`: a map to lower case. `newer`: characters that the library's normal forms do not know;
    of all others every browser has the same normal forms, since these never change.
    """
    from tokenizers import normalizers

    bert = {"type": "BertNormalizer"} | dict.fromkeys(
        ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False
    )
    clean = read_characters({"normalizer": bert | {"clean_text": True}})
    words = read_characters({"pre_tokenizer": {"type": "BertPreTokenizer"}})
    decompose = normalizers.NFKD().normalize_str
    last = "\u0345"  # the highest combining class there is: what combines moves in front of it

    def newer(c: str) -> bool:
        return unicodedata.category(c) == "Cn" or decompose(last + c) != unicodedata.normalize("NFKD", last + c)

    return {
        "space": _as_ranges(code for code, text in clean.mapped.items() if text == " "),
        "control": _removed(clean),
        "accent": _removed(read_characters({"normalizer": bert | {"strip_accents": True}})),
        "mark": _removed(read_characters({"normalizer": {"type": "StripAccents"}})),
        "punctuation": _flagged(words.flags, Flag.ISOLATED),
        "letter": _flagged(letters(), Flag.LETTER),
        "number": _flagged(letters(), Flag.NUMBER),
        "lower": [[c, *map(ord, t)] for c, t in read_characters({"normalizer": {"type": "Lowercase"}}).mapped.items()],
        "newer": _as_ranges(c for c in CODES if newer(chr(c))),
    }


def _removed(characters: Characters) -> list[int]:
    return _as_ranges(np.flatnonzero(np.isin(characters.kinds, (Kind.REMOVED, Kind.REMOVED_STARTER))).tolist())


def _flagged(flags: np.ndarray, flag: Flag) -> list[int]:
    return _as_ranges(np.flatnonzero(flags & flag).tolist())


def _as_ranges(numbers: Iterable[int]) -> list[int]:
    ranges: list[int] = []
    for number in numbers:
        if ranges and ranges[-1] == number - 1:
            ranges[-1] = number
        else:
            ranges += [number, number]
    return ranges


if __name__ == "__main__":
    FILE.write_text(json.dumps(tables(), separators=(",", ":")) + "\n", encoding="utf-8")
