"""What a tokenizer makes of each of Unicode's 1,112,064 characters, asked of the `tokenizers` library itself.

Its Unicode version is its own, and not the one of `unicodedata`; so its normalizer and pre-tokenizer are run on every code
point, alone and between others, rather than read about. What a normalizer makes of a text is what it makes of its characters,
one by one, with marks that follow each other put into canonical order (Unicode, section 3.11). That this holds is checked here
on every character that a normalizer changes.
"""

import json
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import lru_cache
from typing import Any

import numpy as np

from ....errors import SourceError

CODE_POINTS = 0x110000
CODES = [c for c in range(CODE_POINTS) if not 0xD800 <= c < 0xE000]
_CHUNK = 8192


# Where characters are, and every 61st code point of the planes that are private or empty to this day.
DENSE = [c for plane in (0, 1, 2, 3, 14) for c in range(plane << 16, plane + 1 << 16) if not 0xD800 <= c < 0xE000]
SPARSE = [c for plane in (*range(4, 14), 15, 16) for c in range(plane << 16, plane + 1 << 16, 61)]
_BAR = "§"  # stands between characters: no mark, no white space, no letter, what no other character becomes
Normalize = Callable[[str], str]


class Kind(IntEnum):
    """What becomes of a character; `Characters::Kind` in the reader."""

    SAME = 0
    REMOVED = 1
    REMOVED_STARTER = 2  # marks before and after it are not sorted together
    MAPPED = 3
    HANGUL = 4  # a syllable taken apart by arithmetic (Unicode, section 3.12)
    SPACED = 5  # a space on both sides


class Flag(IntFlag):
    """What a character counts as; `Characters::Flag` in the reader."""

    SEPARATOR = 1
    ISOLATED = 2
    WORD = 4
    SPACE = 8
    LETTER = 16
    NUMBER = 32


@dataclass
class Characters:
    """By code point: uint8 `[0x110000]` kinds, flags, ranks (0: no mark) and joins (`graphemes.Join`), and what MAPPED ones become."""

    kinds: np.ndarray
    flags: np.ndarray
    ranks: np.ndarray
    joins: np.ndarray
    mapped: dict[int, str]


def read_characters(tokenizer: dict[str, Any], *, spaces: bool = False) -> Characters:
    """Of the content of a `tokenizer.json`; `spaces`: flags of white space are needed in any case.

    SourceError where its normalizer is not one of single characters.
    """
    added = tokenizer.get("added_tokens") or []
    return _read(
        json.dumps(tokenizer.get("normalizer")),
        json.dumps(tokenizer.get("pre_tokenizer")),
        spaces or any(t["lstrip"] or t["rstrip"] or t["single_word"] for t in added),
    )


@lru_cache(maxsize=16)
def _read(normalizer: str, pre_tokenizer: str, added: bool) -> Characters:
    from tokenizers import Tokenizer

    bare = {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}
    tokenizer = Tokenizer.from_str(
        json.dumps(
            {
                "version": "1.0",
                "added_tokens": [],
                "normalizer": json.loads(normalizer),
                "pre_tokenizer": json.loads(pre_tokenizer),
                "post_processor": None,
                "decoder": None,
                "model": bare,
            }
        )
    )
    kinds, flags, ranks, joins = np.zeros((4, CODE_POINTS), np.uint8)
    found = Characters(kinds, flags, ranks, joins, {})
    if tokenizer.normalizer is not None:
        _normalization(tokenizer.normalizer.normalize_str, found)
    if tokenizer.pre_tokenizer is not None:
        if json.loads(pre_tokenizer)["type"] == "ByteLevel":
            found.flags |= letters()
        else:
            _boundaries(tokenizer.pre_tokenizer.pre_tokenize_str, found.flags)
    if added:
        found.flags |= _words_and_spaces()
    return found


def _between_bars(normalize: Normalize, texts: Sequence[str]) -> Iterator[str]:
    """What becomes of each text alone; none of them may hold one."""
    for start in range(0, len(texts), _CHUNK):
        some = texts[start : start + _CHUNK]
        made = normalize(_BAR + _BAR.join(some) + _BAR).split(_BAR)
        if len(made) != len(some) + 2:
            raise SourceError("the normalizer changes text beyond the characters that it is given")
        yield from made[1:-1]


def _normalization(normalize: Normalize, found: Characters) -> None:
    if normalize(_BAR) != _BAR:
        raise SourceError(f"the normalizer changes {_BAR!r}, which is not foreseen")
    codes = [c for c in CODES if c != ord(_BAR)]
    made = dict(zip(codes, _between_bars(normalize, [chr(c) for c in codes]), strict=True))
    for code, text in made.items():
        char = chr(code)
        if text == char:
            continue
        if text == "":
            found.kinds[code] = Kind.REMOVED
        elif text == f" {char} ":
            found.kinds[code] = Kind.SPACED
        elif 0xAC00 <= code < 0xD7A4 and text == _hangul(code):
            found.kinds[code] = Kind.HANGUL
        else:
            found.kinds[code] = Kind.MAPPED
            found.mapped[code] = text
    _marks(normalize, made, found)
    _check(normalize, found)


def _hangul(code: int) -> str:
    lead, rest = divmod(code - 0xAC00, 588)
    vowel, tail = divmod(rest, 28)
    return chr(0x1100 + lead) + chr(0x1161 + vowel) + (chr(0x11A7 + tail) if tail else "")


def _anchors(normalize: Normalize) -> tuple[str, str] | None:
    """Two marks that stay, and change places when they stand in the wrong order; None where nothing does."""
    marks = [chr(c) for c in CODES if unicodedata.combining(chr(c))]
    stay = sorted((m for m in marks if normalize(m) == m), key=unicodedata.combining)
    backwards = "".join(reversed(stay))
    if normalize(backwards) == backwards:
        return None
    pairs = ((first, last) for last in reversed(stay) for first in stay[: stay.index(last)])
    return next(((first, last) for first, last in pairs if normalize(last + first) == first + last), None)


def _marks(normalize: Normalize, made: dict[int, str], found: Characters) -> None:
    """Ranks of marks that stay, and which of the removed characters keep marks apart."""
    anchors = _anchors(normalize)
    if anchors is None:
        return
    first, last = anchors
    stay = [chr(c) for c, text in made.items() if c >= 0x80 and text == chr(c)]
    behind = _between_bars(normalize, [last + x for x in stay])  # overtaken by x?
    before = _between_bars(normalize, [x + first for x in stay])
    marks = [
        x
        for x, a, b in zip(stay, behind, before, strict=True)
        if a == x + last != last + x or b == first + x != x + first
    ]
    ordered = normalize("".join(marks))
    rank = 0
    for previous, mark in zip(" " + ordered, ordered, strict=False):
        rank += previous == " " or normalize(mark + previous) == previous + mark
        found.ranks[ord(mark)] = rank
    removed = [chr(c) for c in np.flatnonzero(found.kinds == Kind.REMOVED)]
    for x, text in zip(removed, _between_bars(normalize, [last + x + first for x in removed]), strict=True):
        if text == last + first:
            found.kinds[ord(x)] = Kind.REMOVED_STARTER


def _check(normalize: Normalize, found: Characters) -> None:
    """Every character that is mapped or removed, and every mark, among others; SourceError where the table says otherwise."""
    marks = sorted(np.flatnonzero(found.ranks), key=lambda c: found.ranks[c])
    first, last = (chr(marks[0]), chr(marks[-1])) if marks else ("a", "Z")
    changed = np.flatnonzero((found.ranks > 0) | (found.kinds == Kind.MAPPED) | (found.kinds == Kind.REMOVED_STARTER))
    texts = [f"A{last}{chr(c)}{first}B{chr(c)}" for c in changed]
    texts += [f"{chr(a)}{chr(b)}" for a, b in zip(changed, np.roll(changed, 7), strict=True)]
    for text, made in zip(texts, _between_bars(normalize, texts), strict=True):
        if apply(found, text) != made:
            raise SourceError(
                f"the normalizer does not work by single characters ({text!a} becomes {made!a}, not {apply(found, text)!a})"
            )


def apply(found: Characters, text: str) -> str:
    """`text` normalized by the table, as the reader does it."""
    out: list[str] = []
    waiting: list[str] = []

    def settle() -> None:
        out.extend(sorted(waiting, key=lambda mark: found.ranks[ord(mark)]))
        waiting.clear()

    for char in text:
        code = ord(char)
        kind = found.kinds[code]
        if kind == Kind.REMOVED:
            continue
        if kind == Kind.REMOVED_STARTER:
            settle()
            continue
        became = {Kind.SPACED: f" {char} ", Kind.HANGUL: _hangul(code) if kind == Kind.HANGUL else ""}.get(
            kind, found.mapped.get(code, char)
        )
        for one in became:
            if found.ranks[ord(one)]:
                waiting.append(one)
            else:
                settle()
                out.append(one)
    settle()
    return "".join(out)


@lru_cache(maxsize=1)
def read_compositions() -> dict[tuple[int, int], int]:
    """Two characters that NFC makes one of, syllables of Hangul left out (they are arithmetic)."""
    from tokenizers import normalizers

    apart, together = normalizers.NFD().normalize_str, normalizers.NFC().normalize_str
    texts = [chr(c) for c in DENSE if c != ord(_BAR) and not 0xAC00 <= c < 0xD7A4]
    found = {}
    for char, parts in zip(texts, _between_bars(apart, texts), strict=True):
        if parts == char or together(parts) != char:
            continue
        first, second = together(parts[:-1]), parts[-1]
        if len(first) != 1 or together(first + second) != char:
            raise SourceError(f"NFC of the tokenizers library does not make {char!a} of {first!a} and {second!a}")
        found[ord(first), ord(second)] = ord(char)
    return found


@lru_cache(maxsize=1)
def letters() -> np.ndarray:
    """ByteLevel's: letters join with a letter before them, numbers with a number, separators with one, the rest with neither."""
    from tokenizers import pre_tokenizers

    flags = np.zeros(CODE_POINTS, np.uint8)
    split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    pieces = [(" ", " "), ("'", "'")]  # which join with others in ways of their own
    for start in range(0, len(CODES), _CHUNK):
        text = "".join(map(chr, CODES[start : start + _CHUNK])).replace(" ", "").replace("'", "")
        pieces += [(text[at], text[at:stop]) for _, (at, stop) in split(text) if stop > at]
    for flag, before, behind in ((Flag.LETTER, "a", "!"), (Flag.NUMBER, "1", "!"), (Flag.SEPARATOR, "\n", "\n!")):
        width = len(before) + 1 + len(behind)
        probed = split("".join(before + first + behind for first, _ in pieces))
        joined = {at for _, (at, stop) in probed if at % width == 0 and stop - at == 2}
        held = "".join(all_of for i, (_, all_of) in enumerate(pieces) if i * width in joined)
        flags[np.frombuffer(held.encode("utf-32-le"), np.uint32)] |= np.uint8(flag)
    return flags


def _boundaries(split: Callable[[str], list[tuple[str, tuple[int, int]]]], flags: np.ndarray) -> None:
    """Separators stand in no word, isolated characters in one of their own; all others join with a letter on each side."""
    for start in range(0, len(CODES), _CHUNK):
        codes = np.array(CODES[start : start + _CHUNK])
        pieces = np.array([at for _, at in split("a" + "".join(f"{chr(c)}a" for c in codes))])
        covered = np.zeros(2 * len(codes) + 2, np.int32)
        np.add.at(covered, pieces[:, 0], 1)
        np.add.at(covered, pieces[:, 1], -1)
        inside = np.cumsum(covered)[1 : 2 * len(codes) : 2] > 0
        alone = np.zeros(2 * len(codes) + 1, bool)
        alone[pieces[pieces[:, 1] - pieces[:, 0] == 1, 0]] = True
        flags[codes[~inside]] |= np.uint8(Flag.SEPARATOR)
        flags[codes[alone[1::2]]] |= np.uint8(Flag.ISOLATED)


@lru_cache(maxsize=1)
def _words_and_spaces() -> np.ndarray:
    """Flags of what an added token takes for part of a word beside it, and for white space."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    flags = np.zeros(CODE_POINTS, np.uint8)

    def offsets(token: AddedToken, codes: Sequence[int]) -> list[tuple[int, int]]:
        tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split("\x01", "removed")
        tokenizer.add_tokens([token])
        encoding = tokenizer.encode(_BAR.join(f"\x02{chr(c)}" for c in codes))
        return [at for i, at in zip(encoding.ids, encoding.offsets, strict=True) if i != 0]

    looked_at = DENSE + SPARSE
    for start in range(0, len(looked_at), _CHUNK):
        codes = looked_at[start : start + _CHUNK]
        # Each character stands at 3 i + 1, behind the token at 3 i.
        whole = {at[0] for at in offsets(AddedToken("\x02", single_word=True, normalized=False), codes)}
        ends = dict(offsets(AddedToken("\x02", rstrip=True, normalized=False), codes))
        for i, code in enumerate(codes):
            if code != 2:
                flags[code] |= Flag.WORD * (3 * i not in whole) | Flag.SPACE * (ends[3 * i] == 3 * i + 2)
    if flags[SPARSE].any():
        raise SourceError("there are letters in a plane that was empty when Headway was written")
    return flags
