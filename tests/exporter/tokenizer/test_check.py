"""Mixed Unicode lines, and which classes of text a tokenizer differs in."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import GateError
from headway.exporter.tokenizer import check
from headway.exporter.tokenizer.check import PLAIN, classes_of, compare_ids, unicode_lines

LINES = unicode_lines(0, 4000)


def ids(line: str) -> list[int]:
    return [ord(c) for c in line]


def without(pattern: str, flags: int = 0) -> Callable[[str], list[int]]:
    """Return a tokenizer that ignores what matches."""
    return lambda line: ids(re.sub(pattern, "", line, flags=flags))


def test_lines_are_the_same_for_the_same_seed() -> None:
    assert unicode_lines(0, 4000) == LINES and unicode_lines(1, 4000) != LINES
    assert len(unicode_lines(5, 17)) == 17
    assert all(line == line.encode().decode() for line in LINES)


def test_every_class_is_there_alone_and_mixed() -> None:
    labels = [classes_of(line) for line in LINES]
    everywhere = Counter(name for names in labels for name in names)
    alone = Counter(next(iter(names)) for names in labels if len(names) == 1)
    assert len(everywhere) == 33
    assert min(everywhere.values()) > 40 and all(alone[name] >= 4 for name in everywhere), everywhere - alone
    assert sum(not names for names in labels) > 300


def test_every_control_character_is_in_some_line() -> None:
    """Tokenizers differ in single ones of them."""
    controls = {chr(c) for c in range(0xA0) if unicodedata.category(chr(c)) == "Cc"}
    assert len(controls) == 65 and controls <= set("".join(LINES))


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("plain ASCII, 1 + 2!", set()),
        ("ｆｕｌｌ", {"full-width and half-width forms"}),
        ("e\u0301", {"combining marks"}),
        ("e\u0301\u0323", {"stacked combining marks"}),
        ("é", {"accented letters"}),
        ("ж", {"letters beyond ASCII"}),
        ("İ ß ς ǅ", {"case specials"}),
        ("😀", {"emoji"}),
        ("\u2600 \u27bf \U0001f300 \U0001f64f \U0001f680 \U0001fa96", {"emoji"}),
        ("👨\u200d👩\u200d👧 🇩🇪 👍🏽 1\ufe0f\u20e3", {"emoji sequences"}),
        ("שלום", {"Hebrew"}),
        ("سلام", {"Arabic"}),
        ("中", {"Chinese characters"}),
        ("\U00020000", {"Chinese characters beyond the first plane"}),
        ("\uf900", {"Chinese compatibility characters"}),
        ("カ", {"Japanese kana"}),
        ("가", {"Hangul syllables"}),
        ("\u1100\u1161", {"Hangul jamo"}),
        ("ไทย นि", {"letters of other scripts"}),
        ("a\x00b\x7f", {"control characters"}),
        ("a\ufeff\xad\u200c", {"format characters"}),
        ("\ufffd", {"replacement characters"}),
        ("\ue000", {"private-use characters"}),
        ("\u0378", {"unassigned characters"}),
        ("\ufffe\ufdd0\U0010ffff", {"noncharacters"}),
        ("a\u3000b\x85", {"unusual white space"}),
        ("a\tb", {"tabs and line breaks"}),
        ("x" * 100, {"very long words"}),
        ("a [SEP] b", {"special-token texts"}),
        ("<s>", {"special-token texts"}),
        ("", {"empty and blank lines"}),
    ],
)
def test_classes_of(text: str, classes: set[str]) -> None:
    assert classes_of(text) == classes


@given(st.text())
def test_any_text_has_classes(text: str) -> None:
    classes = classes_of(text)
    assert classes or all(" " <= c <= "~" for c in text)


def test_equal() -> None:
    expected = [ids(line) for line in LINES]
    agreement = compare_ids(expected, expected, LINES)
    assert (agreement.lines, agreement.different, agreement.culprits) == (4000, 0, ())
    assert str(agreement) == "token ids are equal on all 4000 lines"
    agreement.require("nothing")


@pytest.mark.parametrize(
    ("tokenize", "culprits"),
    [
        (without("[\u4e00-\u9fff\u3400-\u4dbf]"), {"Chinese characters"}),
        (without(r"\[SEP\]"), {"special-token texts"}),
        (lambda line: ids(line[:400]), {"very long words"}),
        (without("[\U0001f1e6-\U0001f1ff]"), {"emoji sequences"}),
        (without("\u200e|\u202e"), {"format characters"}),
        (without("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]"), {"control characters"}),
    ],
)  # fmt: skip
def test_culprits_are_named(tokenize: Callable[[str], list[int]], culprits: set[str]) -> None:
    agreement = compare_ids([ids(x) for x in LINES], [tokenize(x) for x in LINES], LINES)
    assert agreement.different == sum(ids(x) != tokenize(x) for x in LINES) > 0
    assert set(agreement.culprits) == culprits
    [name] = culprits
    culprit = next(c for c in agreement.classes if c.name == name)
    assert (
        culprit.example is not None
        and ids(culprit.example) != tokenize(culprit.example)
        and culprit.alone_different > 0
    )
    alone = f"{culprit.alone_different} of {culprit.alone} where it occurs alone"
    assert f"{name}: {culprit.different} of {culprit.lines} lines, {alone}; for example {culprit.example!r}" in str(
        agreement
    )
    with pytest.raises(GateError, match=name):
        agreement.require("the other tokenizer", accepted=["Hebrew"])
    agreement.require("the other tokenizer", accepted=culprits)


def test_a_class_that_never_stands_alone() -> None:
    lines = ["a", "中 é", "中 ж", "中", "é", "ж"]
    agreement = compare_ids([[1]] * 6, [[1], [2], [2], [1], [1], [1]], lines)
    assert agreement.culprits == ("Chinese characters",)


def test_plain_text_is_a_class() -> None:
    agreement = compare_ids([[1], [2]], [[1], [3]], ["same", "other"])
    assert agreement.culprits == (PLAIN,)
    assert agreement.to_json()["different"] == 1


def test_marks_that_are_stacked_are_marks() -> None:
    """Each end of a range, so that no range reaches into other characters."""
    ends = [chr(code) for pair in (*check._MARKS, *check._UNUSUAL_MARKS) for code in pair]
    assert [c for c in ends if unicodedata.category(c)[0] != "M"] == []
    assert ends[-1] == "\N{MUSICAL SYMBOL COMBINING FLAG-5}"
