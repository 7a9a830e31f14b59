"""Find what a tokenizer does to each of Unicode's 1,112,064 characters, by running the `tokenizers` library itself.

The library has its own version of Unicode, other than that of `unicodedata`. So its normalizer and pre-tokenizer are run on every code
point, alone and between others. The normalized text is that of the characters one by one, with consecutive marks put into canonical
order (Unicode, section 3.11). This is checked here on every character that a normalizer changes.
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


# All code points of planes with characters, and every 61st of the planes that are private or still empty.
DENSE = [c for plane in (0, 1, 2, 3, 14) for c in range(plane << 16, plane + 1 << 16) if not 0xD800 <= c < 0xE000]
SPARSE = [c for plane in (*range(4, 14), 15, 16) for c in range(plane << 16, plane + 1 << 16, 61)]
_BAR = "§"  # separates characters: no mark, white space or letter, and no other character becomes it
Normalize = Callable[[str], str]


class Kind(IntEnum):
    """What a normalizer does to a character; `Characters::Kind` in the reader."""

    SAME = 0
    REMOVED = 1
    REMOVED_STARTER = 2  # removed, but marks before and after it are not sorted together
    MAPPED = 3
    HANGUL = 4  # a syllable decomposed by arithmetic (Unicode, section 3.12)
    SPACED = 5  # gets a space on both sides


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
    """The table of characters.

    By code point, uint8 `[0x110000]`: kinds, flags, ranks (0: no mark) and joins (`graphemes.Join`). `mapped`: what MAPPED ones become.
    """

    kinds: np.ndarray
    flags: np.ndarray
    ranks: np.ndarray
    joins: np.ndarray
    mapped: dict[int, str]


def read_characters(tokenizer: dict[str, Any], *, spaces: bool = False) -> Characters:
    """Return the table of a `tokenizer.json`; with `spaces`, flags of white space are set in any case.

    Raise SourceError where its normalizer does not work character by character.
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
    characters = Characters(kinds, flags, ranks, joins, {})
    if tokenizer.normalizer is not None:
        _normalization(tokenizer.normalizer.normalize_str, characters)
    if tokenizer.pre_tokenizer is not None:
        if json.loads(pre_tokenizer)["type"] == "ByteLevel":
            characters.flags |= letters()
        else:
            _boundaries(tokenizer.pre_tokenizer.pre_tokenize_str, characters.flags)
    if added:
        characters.flags |= _words_and_spaces()
    return characters


def _between_bars(normalize: Normalize, texts: Sequence[str]) -> Iterator[str]:
    """Yield what each text becomes alone; no text may contain the bar."""
    for start in range(0, len(texts), _CHUNK):
        some = texts[start : start + _CHUNK]
        results = normalize(_BAR + _BAR.join(some) + _BAR).split(_BAR)
        if len(results) != len(some) + 2:
            raise SourceError("the normalizer changes text beyond the characters that it is given")
        yield from results[1:-1]


def _normalization(normalize: Normalize, characters: Characters) -> None:
    if normalize(_BAR) != _BAR:
        raise SourceError(
            f"the normalizer changes {_BAR!r}, so that its effect on other characters cannot be separated"
        )
    codes = [c for c in CODES if c != ord(_BAR)]
    normalized = dict(zip(codes, _between_bars(normalize, [chr(c) for c in codes]), strict=True))
    for code, text in normalized.items():
        char = chr(code)
        if text == char:
            continue
        if text == "":
            characters.kinds[code] = Kind.REMOVED
        elif text == f" {char} ":
            characters.kinds[code] = Kind.SPACED
        elif 0xAC00 <= code < 0xD7A4 and text == _hangul(code):
            characters.kinds[code] = Kind.HANGUL
        else:
            characters.kinds[code] = Kind.MAPPED
            characters.mapped[code] = text
    _marks(normalize, normalized, characters)
    _check(normalize, characters)


def _hangul(code: int) -> str:
    lead, rest = divmod(code - 0xAC00, 588)
    vowel, tail = divmod(rest, 28)
    return chr(0x1100 + lead) + chr(0x1161 + vowel) + (chr(0x11A7 + tail) if tail else "")


def _anchors(normalize: Normalize) -> tuple[str, str] | None:
    """Return two unchanged marks that change places where their order is wrong; None where there are none."""
    marks = [chr(c) for c in CODES if unicodedata.combining(chr(c))]
    stay = sorted((m for m in marks if normalize(m) == m), key=unicodedata.combining)
    backwards = "".join(reversed(stay))
    if normalize(backwards) == backwards:
        return None
    pairs = ((first, last) for last in reversed(stay) for first in stay[: stay.index(last)])
    return next(((first, last) for first, last in pairs if normalize(last + first) == first + last), None)


def _marks(normalize: Normalize, normalized: dict[int, str], characters: Characters) -> None:
    """Set the ranks of marks that stay, and find the removed characters that keep marks apart."""
    anchors = _anchors(normalize)
    if anchors is None:
        return
    first, last = anchors
    stay = [chr(c) for c, text in normalized.items() if c >= 0x80 and text == chr(c)]
    behind = _between_bars(normalize, [last + x for x in stay])  # does x move before it?
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
        characters.ranks[ord(mark)] = rank
    removed = [chr(c) for c in np.flatnonzero(characters.kinds == Kind.REMOVED)]
    for x, text in zip(removed, _between_bars(normalize, [last + x + first for x in removed]), strict=True):
        if text == last + first:
            characters.kinds[ord(x)] = Kind.REMOVED_STARTER


def _check(normalize: Normalize, characters: Characters) -> None:
    """Run every changed character and every mark among others. Raise SourceError where the table gives another text."""
    marks = sorted(np.flatnonzero(characters.ranks), key=lambda c: characters.ranks[c])
    first, last = (chr(marks[0]), chr(marks[-1])) if marks else ("a", "Z")
    changed = np.flatnonzero(
        (characters.ranks > 0) | (characters.kinds == Kind.MAPPED) | (characters.kinds == Kind.REMOVED_STARTER)
    )
    texts = [f"A{last}{chr(c)}{first}B{chr(c)}" for c in changed]
    texts += [f"{chr(a)}{chr(b)}" for a, b in zip(changed, np.roll(changed, 7), strict=True)]
    for text, result in zip(texts, _between_bars(normalize, texts), strict=True):
        if apply(characters, text) != result:
            raise SourceError(
                f"the normalizer does not work character by character ({text!a} becomes {result!a}, not {apply(characters, text)!a})"
            )


def apply(characters: Characters, text: str) -> str:
    """Return `text` normalized by the table, as the reader does it."""
    out: list[str] = []
    waiting: list[str] = []

    def settle() -> None:
        out.extend(sorted(waiting, key=lambda mark: characters.ranks[ord(mark)]))
        waiting.clear()

    for char in text:
        code = ord(char)
        kind = characters.kinds[code]
        if kind == Kind.REMOVED:
            continue
        if kind == Kind.REMOVED_STARTER:
            settle()
            continue
        became = {Kind.SPACED: f" {char} ", Kind.HANGUL: _hangul(code) if kind == Kind.HANGUL else ""}.get(
            kind, characters.mapped.get(code, char)
        )
        for character in became:
            if characters.ranks[ord(character)]:
                waiting.append(character)
            else:
                settle()
                out.append(character)
    settle()
    return "".join(out)


@lru_cache(maxsize=1)
def read_compositions() -> dict[tuple[int, int], int]:
    """Return the pairs of characters that NFC composes, with the result; Hangul, which is arithmetic, is left out."""
    from tokenizers import normalizers

    apart, together = normalizers.NFD().normalize_str, normalizers.NFC().normalize_str
    texts = [chr(c) for c in DENSE if c != ord(_BAR) and not 0xAC00 <= c < 0xD7A4]
    compositions = {}
    for char, parts in zip(texts, _between_bars(apart, texts), strict=True):
        if parts == char or together(parts) != char:
            continue
        first, second = together(parts[:-1]), parts[-1]
        if len(first) != 1 or together(first + second) != char:
            raise SourceError(f"NFC of the tokenizers library does not make {char!a} of {first!a} and {second!a}")
        compositions[ord(first), ord(second)] = ord(char)
    return compositions


@lru_cache(maxsize=1)
def letters() -> np.ndarray:
    """Return flags of ByteLevel: letters join with a letter before them, numbers with a number, separators with a separator."""
    from tokenizers import pre_tokenizers

    flags = np.zeros(CODE_POINTS, np.uint8)
    split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    pieces = [(" ", " "), ("'", "'")]  # these join with others by rules of their own
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
    """Flag separators, which are in no word, and isolated characters, which are words; all others join with letters."""
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
    """Return flags of what an added token treats as part of an adjacent word, and as white space."""
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
        alone = {at[0] for at in offsets(AddedToken("\x02", single_word=True, normalized=False), codes)}
        ends = dict(offsets(AddedToken("\x02", rstrip=True, normalized=False), codes))
        for i, code in enumerate(codes):
            if code != 2:
                flags[code] |= Flag.WORD * (3 * i not in alone) | Flag.SPACE * (ends[3 * i] == 3 * i + 2)
    if flags[SPARSE].any():
        raise SourceError("there are letters in a plane that was empty when Headway was written")
    return flags
