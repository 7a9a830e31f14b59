"""The tables that travel with the page."""

import json
from itertools import pairwise

from headway.exporter.targets.web.unicode import FILE, tables


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
