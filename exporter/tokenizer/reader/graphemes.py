"""Find how characters join into grapheme clusters in sentencepiece's normalizer in `tokenizers`, and read its replacements.

The normalizer looks up clusters of less than six bytes as a whole, so the reader has to find their ends (Unicode, UAX 29) by the same
version of Unicode. Normalizers made for this purpose reveal it: one turns every cluster that it looks up into one letter, and the
number of letters shows where clusters ended.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np

from ....errors import SourceError
from .characters import CODE_POINTS, DENSE, SPARSE

_CHUNK = 8192
_HANGUL_L, _HANGUL_V, _HANGUL_T = "\u1100", "\u1161", "\u11a8"
_ACUTE, _LINKER, _CONSONANT, _JOINER = "\u0301", "\u094d", "\u0915", "\u200d"


class Join(IntEnum):
    """How a character joins; `Characters::Join` in the reader. EXTENDS is a base: its three lowest bits say more."""

    OTHER = 0
    CONTROL = 1
    PREPENDS = 2
    PICTOGRAPH = 3
    CONSONANT = 4
    L = 5
    V = 6
    T = 7
    LV = 8
    LVT = 9
    EXTENDS = 16  # or SpacingMark
    KEEPS_PICTOGRAPH = 1
    LINKS = 2
    KEEPS_CONSONANT = 4


@lru_cache(maxsize=1)
def read_joins() -> np.ndarray:
    """Return each character's `Join`, uint8 `[0x110000]`."""
    joins = np.zeros(CODE_POINTS, np.uint8)
    joins[[0x00, 0x0A, 0x0D]] = Join.CONTROL  # the reader itself joins the last two; keys cannot contain the first
    letters = _clusters_to_letters()
    codes = [c for c in DENSE + SPARSE if c not in (0x00, 0x0A, 0x0D)]

    def count(before: str, behind: str, of: Iterable[int]) -> dict[int, int]:
        of = list(of)
        normalized = _lines(letters, [f"{before}{chr(c)}{behind}" for c in of])
        return {c: len(text) for c, text in zip(of, normalized, strict=True)}

    def where(counts: Mapping[int, int], number: int) -> list[int]:
        return [c for c, n in counts.items() if n == number]

    extends = where(count("a", "", codes), 1)
    joins[extends] = Join.EXTENDS
    keeps = count("©", f"{_JOINER}©{_ACUTE}", extends)
    links = count(_CONSONANT, _CONSONANT + _ACUTE, extends)
    keeps_consonant = count(_CONSONANT + _LINKER, _CONSONANT + _ACUTE, extends)
    joins[where(keeps, 5)] |= np.uint8(Join.KEEPS_PICTOGRAPH)
    joins[where(links, 4)] |= np.uint8(Join.LINKS)
    joins[where(keeps_consonant, 5)] |= np.uint8(Join.KEEPS_CONSONANT)
    codes = [c for c in codes if joins[c] == Join.OTHER]
    joins[where(count("", "a", codes), 1)] = Join.PREPENDS
    texts = _lines(_one_key(_ACUTE), [f"{chr(c)}{_ACUTE}\u0302" for c in codes])
    joins[[c for c, text in zip(codes, texts, strict=True) if text == f"{chr(c)}Z"]] = Join.CONTROL
    texts = _lines(_one_key("©"), [f"©{_JOINER}{chr(c)}" for c in codes])
    joined = [c for c, text in zip(codes, texts, strict=True) if text.startswith(f"Z{_JOINER}")]
    joins[[c for c in joined if joins[c] == Join.OTHER]] = Join.PICTOGRAPH
    codes = [c for c in codes if joins[c] == Join.OTHER]
    joins[where(count("", _LINKER + _CONSONANT + _ACUTE, codes), 4)] = Join.CONSONANT
    before_l, before_v, before_t = (
        set(where(count("", part + _ACUTE, codes), 3)) for part in (_HANGUL_L, _HANGUL_V, _HANGUL_T)
    )
    some = before_l | before_v | before_t
    behind_v, behind_t = (set(where(count(part, _ACUTE, some), 3)) for part in (_HANGUL_V, _HANGUL_T))
    for code in some:
        if code in before_l:
            joins[code] = Join.L
        elif code in before_v:
            joins[code] = Join.V if code in behind_v else Join.LV
        else:
            joins[code] = Join.T if code in behind_t else Join.LVT
    if joins[SPARSE].any():
        raise SourceError("characters join into clusters in a plane that was empty when Headway was written")
    return joins


def _lines(normalizer: Any, texts: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for start in range(0, len(texts), _CHUNK):
        some = texts[start : start + _CHUNK]
        lines += normalizer.normalize_str("\n".join(some)).split("\n")
    if len(lines) != len(texts):
        raise SourceError("grapheme clusters of the tokenizers library are not found out: it joins lines")
    return lines


def _clusters_to_letters() -> Any:
    """Return a normalizer that turns each cluster or character it looks up into `Z`, except line feeds."""
    tail = range(0x80, 0xC0)
    first = {c: None for c in range(1, 0x80) if c != 0x0A} | {c: 1 for c in range(0xC2, 0xE0)}
    first |= {c: 2 for c in range(0xE0, 0xF0)} | {c: 3 for c in range(0xF0, 0xF5)}
    return _normalizer([first, dict.fromkeys(tail), dict.fromkeys(tail, 1), dict.fromkeys(tail, 2)])


def _one_key(char: str) -> Any:
    key = char.encode()
    return _normalizer([{byte: i + 1 if i + 1 < len(key) else None} for i, byte in enumerate(key)])


def _normalizer(states: Sequence[Mapping[int, int | None]]) -> Any:
    """Return a normalizer of keys that lead byte by byte through states (None: a key ends) and become `Z`, in darts-clone's format."""
    from tokenizers import normalizers

    end = 256 * (len(states) + 1)
    units = np.zeros(end + 256, "<u4")
    units[0] = 256 << 10
    for number, state in enumerate(states):
        for byte, following in state.items():
            at = 256 * (number + 1) ^ byte
            to = end if following is None else 256 * (following + 1)
            units[at] = byte | (at ^ to) << 10 | (following is None) << 8
    return normalizers.Precompiled(struct.pack("<I", units.nbytes) + units.tobytes() + b"Z\0")


def read_replacements(charsmap: bytes) -> dict[bytes, bytes]:
    """Return keys and what they become; of keys with a common beginning the shortest, the only one that the normalizer finds."""
    size = int.from_bytes(charsmap[:4], "little")
    units = np.frombuffer(charsmap[4 : 4 + size], "<u4").astype(np.int64)
    texts = charsmap[4 + size :]
    replacements: dict[bytes, bytes] = {}
    offsets = (units >> 10) << ((units & (1 << 9)) >> 6)
    queue = [(int(offsets[0]), b"")]
    while queue:
        base, key = queue.pop()
        for byte in range(1, 256):
            at = base ^ byte
            if at >= len(units) or units[at] & (1 << 31 | 0xFF) != byte:
                continue
            below = at ^ int(offsets[at])
            if units[at] >> 8 & 1:
                start = int(units[below] & 0x7FFFFFFF)
                replacements[key + bytes([byte])] = texts[start : texts.index(b"\0", start)]
            else:
                queue.append((below, key + bytes([byte])))
    return replacements
