"""Compare a tokenizer on a device with the source's on mixed Unicode lines, and name the classes of text that differ.

`classes_of` reads the classes from a line itself, so any text can be compared. `unicode_lines` makes lines in which each class occurs
alone among plain words, and lines that mix classes, so that a difference can be traced to one class.
"""

import random
import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from ...errors import GateError

PLAIN = "plain text"
_RANGES: dict[str, tuple[tuple[int, int], ...]] = {
    "full-width and half-width forms": ((0xFF01, 0xFFEF),),
    "combining marks": (
        (0x300, 0x36F),
        (0x1AB0, 0x1AFF),
        (0x1DC0, 0x1DFF),
        (0x20D0, 0x20DF),
        (0x20E1, 0x20FF),
        (0x302A, 0x302F),
        (0xFE20, 0xFE2F),
        (0x1D165, 0x1D169),
        (0x1D16D, 0x1D172),
    ),
    "emoji": ((0x2600, 0x27BF), (0x1F300, 0x1F64F), (0x1F680, 0x1FAFF)),
    "emoji sequences": ((0x1F1E6, 0x1F1FF), (0x1F3FB, 0x1F3FF), (0xFE0E, 0xFE0F), (0x20E3, 0x20E3), (0xE0020, 0xE007F)),
    "Arabic": ((0x600, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF), (0xFB50, 0xFDCF), (0xFDF0, 0xFDFF), (0xFE70, 0xFEFC)),
    "Hebrew": ((0x590, 0x5FF), (0xFB1D, 0xFB4F)),
    "Chinese characters": ((0x3400, 0x4DBF), (0x4E00, 0x9FFF)),
    "Chinese characters beyond the first plane": ((0x20000, 0x2A6DF), (0x2A700, 0x2EBE0), (0x30000, 0x323AF)),
    "Chinese compatibility characters": ((0xF900, 0xFAFF), (0x2F800, 0x2FA1F), (0x2E80, 0x2FDF), (0x3200, 0x33FF)),
    "Japanese kana": ((0x3040, 0x30FF), (0x31F0, 0x31FF)),
    "Hangul syllables": ((0xAC00, 0xD7A3),),
    "Hangul jamo": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97C), (0xD7B0, 0xD7FB)),
}

_CASES = "İıßẞſΣςΣŉǰΐΰևẖẗẘẙẚᾀᾈᾼῼKÅΩϴᏣꭰȺȾⱢ"
_SPECIAL_TEXTS = re.compile(
    r"\[(CLS|SEP|PAD|UNK|MASK|unused\d+)\]|</?s>|<(pad|unk|mask|bos|eos)>|<\|[a-z_]+\|>", re.IGNORECASE
)

_WIDER = {"stacked combining marks": "combining marks", "emoji sequences": "emoji"}
"""A narrow class replaces the wider one that contains it, or it would never occur alone."""

_LONG_WORD = 100
_USUAL_SPACE = " \t\n\r"
_CATEGORIES = {
    "Cf": "format characters",
    "Co": "private-use characters",
    "Lt": "case specials",
    "Lo": "letters of other scripts",
    "Ll": "letters beyond ASCII",
    "Lu": "letters beyond ASCII",
    "Lm": "modifier letters",
    "Nd": "digits beyond ASCII",
    "Nl": "numbers beyond ASCII",
    "No": "numbers beyond ASCII",
    "P": "punctuation beyond ASCII",
    "S": "symbols beyond ASCII",
    "M": "letters of other scripts",
}


def classes_of(line: str) -> frozenset[str]:
    """Return the names of the classes of text in `line`; none for ASCII words, digits and punctuation."""
    classes = {name for char in set(line) if (name := _class_of(char)) is not None}
    if re.search(r"\S", line) is None:
        classes.add("empty and blank lines")
    if any(_is_mark(a) and _is_mark(b) for a, b in pairwise(line)):
        classes.add("stacked combining marks")
    if _SPECIAL_TEXTS.search(line):
        classes.add("special-token texts")
    if max(map(len, line.split()), default=0) >= _LONG_WORD:
        classes.add("very long words")
    return frozenset(classes - {_WIDER[name] for name in classes & _WIDER.keys()})


def _class_of(char: str) -> str | None:
    code = ord(char)
    if 0x20 <= code < 0x7F:
        return None
    if char.isspace():
        return "unusual white space" if char not in _USUAL_SPACE else "tabs and line breaks"
    if char in "\u200d\u20e3":
        return "emoji sequences"
    if char in "\ufffd":
        return "replacement characters"
    category = unicodedata.category(char)
    if category == "Cc":
        return "control characters"
    if code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
        return "noncharacters"
    if category == "Cn":
        return "unassigned characters"
    if char in _CASES or (char.isalpha() and (len(char.lower()) > 1 or len(char.upper()) > 1)):
        return "case specials"
    for name, ranges in _RANGES.items():
        if any(low <= code <= high for low, high in ranges):
            return name
    if category[0] == "L" and unicodedata.normalize("NFD", char) != char:
        return "accented letters"
    return _CATEGORIES.get(category) or _CATEGORIES.get(category[0])


def _is_mark(char: str) -> bool:
    return char > "\u02ff" and _class_of(char) == "combining marks"


_Maker = Callable[[random.Random], str]


def _from(*ranges: tuple[int, int], most: int = 6) -> _Maker:
    def make(rng: random.Random) -> str:
        low, high = rng.choice(ranges)
        return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, most)))

    return make


def _one_of(*texts: str, most: int = 1) -> _Maker:
    return lambda rng: "".join(rng.choice(texts) for _ in range(rng.randint(1, most)))


def _on_letters(marks: tuple[tuple[int, int], ...], stacked: int) -> _Maker:
    def make(rng: random.Random) -> str:
        some = _from(*marks, most=1)
        return "".join(
            rng.choice("aeionuyAEOUdszk") + "".join(some(rng) for _ in range(rng.randint(min(stacked, 2), stacked)))
            for _ in range(rng.randint(1, 5))
        )

    return make


def _emoji_sequence(rng: random.Random) -> str:
    tones = [chr(c) for c in range(0x1F3FB, 0x1F400)]
    flag = "".join(chr(0x1F1E6 + rng.randrange(26)) for _ in range(2))
    scotland = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
    family = "\u200d".join(rng.sample(["👨", "👩", "👧", "👦"], rng.randint(2, 4)))
    worker = rng.choice("👩👨🧑") + rng.choice(["", *tones]) + "\u200d" + rng.choice(["💻", "🚀", "⚕\ufe0f", "🎨"])
    return rng.choice([flag, scotland, family, worker, "👍" + rng.choice(tones), "❤\ufe0f", "1\ufe0f\u20e3", "☺\ufe0e"])


def _long_word(rng: random.Random) -> str:
    length = rng.choice([99, 100, 101, 102, 103, 104, 150, 300, 1000])
    return "".join(rng.choice(rng.choice(["abcdefgh", "e", "0123456789"])) for _ in range(length))


_MARKS = ((0x300, 0x36F), (0x1DC0, 0x1DFF), (0x20D0, 0x20DC), (0x20E5, 0x20F0))
_UNUSUAL_MARKS = (
    (0x302A, 0x302F),
    (0x1D165, 0x1D169),
    (0x1D16D, 0x1D172),
)  # some are spacing, and ordered all the same

_MARKS_OF_SCRIPTS = ((0x591, 0x5BD), (0x64B, 0x65F), (0x93C, 0x94D), (0xE31, 0xE4B), (0xF71, 0xF84), (0x16FF0, 0x16FF1))


def _stacked_marks(rng: random.Random) -> str:
    marks = rng.choice([_MARKS, (*_MARKS, *_UNUSUAL_MARKS), (*_MARKS, *_UNUSUAL_MARKS, *_MARKS_OF_SCRIPTS)])
    return _on_letters(marks, 5)(rng)


_MAKERS: dict[str, _Maker] = {
    "full-width and half-width forms": _from((0xFF01, 0xFF5E), (0xFF61, 0xFF9F), (0xFFE0, 0xFFEE)),
    "combining marks": _on_letters(_MARKS, 1),
    "stacked combining marks": _stacked_marks,
    "accented letters": _from((0xC0, 0xD6), (0xE0, 0xF6), (0x100, 0x130), (0x1E00, 0x1E95), (0x1EA0, 0x1EF9), (0x386, 0x3CE)),
    "letters beyond ASCII": _from((0x391, 0x3C9), (0x400, 0x45F), (0x10A0, 0x10FF), (0x531, 0x587), (0x10400, 0x1044F)),
    "case specials": _one_of(*_CASES, "ΑΣ", "ΟΔΟΣ ", "Iß", "ǅ", "ǈ", "ǲ", "ﬁ", "ﬃ", most=4),
    "emoji": _from((0x1F300, 0x1F3FA), (0x1F400, 0x1F64F), (0x1F900, 0x1F9FF), (0x2600, 0x26FF), most=3),
    "emoji sequences": _emoji_sequence,
    "Arabic": _one_of("السلام عليكم", "كِتَابٌ", "لا إله", "ﷺ", "ﻻ", "۱۲۳", "قَالَ: نَعَمْ", "\u0640\u0640م", "أإآؤئ"),
    "Hebrew": _one_of("שלום עולם", "שָׁלוֹם", "שּׁ", "בְּרֵאשִׁית", "צה״ל", "\ufb1d\ufb2c\ufb4f"),
    "Chinese characters": _from((0x4E00, 0x9FA5), (0x4E00, 0x62FF), (0x3400, 0x4DB5)),
    "Chinese characters beyond the first plane": _from(
        (0x20000, 0x2A6DD), (0x2A700, 0x2B734), (0x2B740, 0x2B81D), (0x2B820, 0x2B91F), (0x2CEB0, 0x2EBE0), (0x30000, 0x3134A)
    ),
    "Chinese compatibility characters": _from((0xF900, 0xFAD9), (0x2F800, 0x2FA1D), (0x2F00, 0x2FD5), (0x3220, 0x33FF)),
    "Japanese kana": _from((0x3041, 0x3096), (0x30A1, 0x30FE), (0x31F0, 0x31FF)),
    "Hangul syllables": _from((0xAC00, 0xD7A3)),
    "Hangul jamo": _from((0x1100, 0x1112), (0x1161, 0x1175), (0x11A8, 0x11C2), (0x3131, 0x318E), (0xA960, 0xA97C)),
    "letters of other scripts": _one_of(
        "สวัสดีครับ", "ภาษาไทย", "नमस्ते", "हिन्दी", "বাংলা", "தமிழ்", "తెలుగు", "മലയാളം", "ಕನ್ನಡ", "ລາວ", "བོད་", "မြန်မာ", "ខ្មែរ", "አማርኛ", "සිංහල"
    ),
    "any characters": _from((0x80, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x1FFFF), (0xA0, 0x24F), (0x2000, 0x2BFF)),
    "control characters": _from((0, 8), (0xE, 0x1F), (0x7F, 0x84), (0x86, 0x9F), most=3),
    "format characters": _one_of(
        "\xad", "\u200b", "\u200c", "\u200e", "\u200f", "\u202e", "\u2060", "\u2066", "\ufeff", "\u061c", "\u180e",
        "\u0600", "\u06dd", "\ufff9", "\U000e0001", "\U0001d173", most=3,
    ),
    "replacement characters": _one_of("\ufffd", most=3),
    "private-use characters": _from((0xE000, 0xF8FF), (0xF0000, 0xFFFFD), (0x100000, 0x10FFFD), most=3),
    "unassigned characters": _from((0x378, 0x379), (0x2FE0, 0x2FEF), (0x40000, 0x4FFFD), (0xE0080, 0xE00FF), most=3),
    "noncharacters": _from((0xFDD0, 0xFDEF), (0xFFFE, 0xFFFF), (0x1FFFE, 0x1FFFF), (0x10FFFE, 0x10FFFF), most=2),
    "unusual white space": _one_of(
        "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0", "\u1680", "\u2000", "\u2003", "\u2009", "\u200a",
        "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", most=3,
    ),
    "tabs and line breaks": _one_of("\t", "\n", "\r", "\r\n", " \t ", most=3),
    "digits beyond ASCII": _from((0x660, 0x669), (0x966, 0x96F), (0xE50, 0xE59), (0x1D7CE, 0x1D7FF)),
    "numbers beyond ASCII": _from((0xB2, 0xB3), (0xBC, 0xBE), (0x2150, 0x2182), (0x2460, 0x249B), (0x2070, 0x2079)),
    "modifier letters": _from((0x2B0, 0x2C1), (0x1D2C, 0x1D6A), (0xA717, 0xA71F)),
    "punctuation beyond ASCII": _from((0x2010, 0x2027), (0x2030, 0x205E), (0x3001, 0x3003), (0x3008, 0x3011), (0xA1, 0xA1), (0xBF, 0xBF)),
    "symbols beyond ASCII": _from((0x20A0, 0x20BF), (0x2190, 0x23FF), (0x2500, 0x25FF), (0xA2, 0xA9), (0x2100, 0x214F), (0x1D100, 0x1D126)),
    "very long words": _long_word,
    "special-token texts": _one_of(
        "[SEP]", "[CLS]", "[PAD]", "[MASK]", "[UNK]", "[unused1]", "[sep]", "[ SEP ]", "[SEP][SEP]", " [MASK] ", "<s>", "</s>",
        "<pad>", "<mask>", " <mask> ", "<unk>", "##ing", "##", "▁the", "Ġthe", "<|endoftext|>", "[SEP", "SEP]",
    ),
}  # fmt: skip

_WORDS = (  # noqa: SIM905
    "the parcel came on Tuesday and I'd like a refund Naïve cafe 3.14 don't e-mail@example.com (see below) $20 C++ unbelievably "
    'internationalization tokenizers https://example.org/a?b=c#d HELLO World well-known re-enter 1,000,000 a_b "quoted" ok!!! ...'
).split()


def unicode_lines(seed: int, count: int) -> list[str]:
    """Return `count` lines: each class of text alone among plain words, mixed classes, ordinary text in many languages, blanks.

    The same seed gives the same lines. `classes_of` labels them.
    """
    from ...calibration.corpus import builtin_lines

    rng = random.Random(seed)
    ordinary = builtin_lines()
    makers = list(_MAKERS.values())
    lines = []
    for number in range(count):
        kind = rng.random()
        if number < len(makers) * 4:  # each class at least four times, whatever is drawn
            lines.append(_with_words(rng, [makers[number % len(makers)]]))
        elif kind < 0.02:
            lines.append(rng.choice(["", " ", "  ", "\t", "\u3000", "\n", "\xa0 "]))
        elif kind < 0.1:
            lines.append(" ".join(rng.choice(_WORDS) for _ in range(rng.randint(1, 12))))
        elif kind < 0.25:
            lines.append(_cut(rng, rng.choice(ordinary)))
        elif kind < 0.6:
            lines.append(_with_words(rng, [rng.choice(makers)]))
        else:
            lines.append(_with_words(rng, rng.choices(makers, k=rng.randint(2, 6))))
    return lines


def _cut(rng: random.Random, line: str) -> str:
    start = rng.randrange(len(line)) if rng.random() < 0.5 else 0
    return line[start : start + rng.randint(1, 200)]


def _with_words(rng: random.Random, makers: Sequence[_Maker]) -> str:
    parts = []
    for maker in makers:
        words = [rng.choice(_WORDS).replace("ï", "i") for _ in range(rng.randint(0, 2))]
        parts += [*words, *(maker(rng) for _ in range(rng.randint(1, 2)))]
    return "".join(part + rng.choice(["", " ", " "]) for part in parts)


@dataclass(frozen=True)
class ClassAgreement:
    """One class: how many lines contain it, how many of those differ, both for lines that contain nothing else, and an example."""

    name: str
    lines: int
    different: int
    alone: int
    alone_different: int
    example: str | None


@dataclass(frozen=True)
class TokenAgreement:
    """What `compare_ids` returns. `culprits`: a few classes that account for every line that differs.

    A culprit is a class that differs where it occurs alone. Where differing lines contain none of those, it is the class that most of
    them contain.
    """

    lines: int
    different: int
    culprits: tuple[str, ...]
    classes: tuple[ClassAgreement, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        if not self.different:
            return f"token ids are equal on all {self.lines} lines"
        by_name = {c.name: c for c in self.classes}
        what = []
        for name in self.culprits:
            culprit = by_name[name]
            alone = f", {culprit.alone_different} of {culprit.alone} where it occurs alone" if culprit.alone else ""
            what.append(
                f"  {name}: {culprit.different} of {culprit.lines} lines{alone}; for example {culprit.example!r}"
            )
        return "\n".join(
            [f"token ids differ on {self.different} of {self.lines} lines, in these classes of text:", *what]
        )

    def require(self, what: str, accepted: Collection[str] = ()) -> None:
        """Raise GateError where `what` differs from its source in a class that is not in `accepted`."""
        left = [name for name in self.culprits if name not in accepted]
        if left:
            raise GateError(f"{what}: {self}\nnot accepted: {', '.join(left)}")


def compare_ids(
    expected: Sequence[Sequence[int]], actual: Sequence[Sequence[int]], lines: Sequence[str]
) -> TokenAgreement:
    """Compare token ids of a source tokenizer, `expected`, with those of another one, line by line.

    Examples are the shortest lines, of one class alone where there are any.
    """
    rows = [
        (line, classes_of(line) or frozenset([PLAIN]), list(a) != list(b))
        for line, a, b in zip(lines, expected, actual, strict=True)
    ]
    differing = [(line, classes) for line, classes, different in rows if different]
    names = sorted({name for _, classes, _ in rows for name in classes})
    classes = []
    for name in names:
        inside = [(line, held, different) for line, held, different in rows if name in held]
        alone = [different for _, held, different in inside if len(held) == 1]
        examples = sorted((len(held) > 1, len(line), line) for line, held, different in inside if different)
        classes.append(
            ClassAgreement(
                name,
                len(inside),
                sum(different for _, _, different in inside),
                len(alone),
                sum(alone),
                examples[0][2] if examples else None,
            )
        )
    culprits = [c.name for c in classes if c.alone_different]
    while left := [held for _, held in differing if held.isdisjoint(culprits)]:
        counts = {name: sum(name in held for held in left) for name in names}
        culprits.append(max(names, key=lambda name: counts[name]))
    return TokenAgreement(len(rows), len(differing), tuple(culprits), tuple(classes))
