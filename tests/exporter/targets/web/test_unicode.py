"""The tables that travel with the page."""

import json
from itertools import chain, pairwise
from typing import Any

import pytest
from tokenizers import normalizers

from headway.exporter.targets.web.unicode import FILE, tables
from headway.exporter.tokenizer.reader.characters import CODES, Flag, letters, read_characters

BAR = "§"


def ranges(numbers: list[int]) -> set[int]:
    return set(chain.from_iterable(range(a, b + 1) for a, b in zip(numbers[::2], numbers[1::2], strict=True)))


def changed(normalizer: Any) -> dict[int, str]:
    """Return the characters that a normalizer changes, each alone, and what they become."""
    codes = [c for c in CODES if c != ord(BAR)]
    texts = normalizer.normalize_str(BAR + BAR.join(map(chr, codes)) + BAR).split(BAR)[1:-1]
    return {code: text for code, text in zip(codes, texts, strict=True) if text != chr(code)}


def removed(normalizer: Any) -> set[int]:
    return {code for code, text in changed(normalizer).items() if text == ""}


def test_the_page_holds_what_normalizers_do_to_single_characters() -> None:
    written = json.loads(FILE.read_text(encoding="utf-8"))
    settings = dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False)
    clean = normalizers.BertNormalizer(**settings | {"clean_text": True})
    assert ranges(written["space"]) == {code for code, text in changed(clean).items() if text == " "}
    assert ranges(written["control"]) == removed(clean)
    assert ranges(written["accent"]) == removed(normalizers.BertNormalizer(**settings | {"strip_accents": True}))
    assert ranges(written["mark"]) == removed(normalizers.StripAccents())
    assert {first: "".join(map(chr, rest)) for first, *rest in written["lower"]} == changed(normalizers.Lowercase())


def test_the_page_holds_what_pre_tokenizers_do_to_single_characters() -> None:
    written = json.loads(FILE.read_text(encoding="utf-8"))
    words = read_characters({"pre_tokenizer": {"type": "BertPreTokenizer"}}).flags
    for name, flags, flag in (
        ("punctuation", words, Flag.ISOLATED),
        ("letter", letters(), Flag.LETTER),
        ("number", letters(), Flag.NUMBER),
    ):
        assert ranges(written[name]) == set((flags & flag).nonzero()[0].tolist()), name


@pytest.mark.slow
def test_the_page_holds_what_the_library_does_to_characters() -> None:
    written, asked = json.loads(FILE.read_text(encoding="utf-8")), tables()
    assert written.keys() == asked.keys()
    for name in asked.keys() - {"newer"}:  # Python's own version of Unicode decides what is newer than the library's
        assert written[name] == asked[name], name


def test_ranges_ascend_and_hold_what_their_name_says() -> None:
    written = json.loads(FILE.read_text(encoding="utf-8"))
    for name in written.keys() - {"lower"}:
        numbers = written[name]
        assert len(numbers) % 2 == 0 and all(a <= b for a, b in pairwise(numbers))

    def holds(name: str, char: str) -> bool:
        ranges = written[name]
        return any(first <= ord(char) <= last for first, last in zip(ranges[::2], ranges[1::2], strict=True))

    assert holds("space", "\u00a0") and holds("control", "\u0007") and holds("accent", "\u0301")
    assert holds("punctuation", "!") and holds("letter", "é") and holds("number", "7") and not holds("letter", "7")
    assert [ord("A"), ord("a")] in written["lower"]
