"""Token ids in JavaScript."""

import json
import shutil
from functools import cache
from inspect import signature
from pathlib import Path

import pytest

from headway.errors import GateError, TargetError
from headway.exporter.source.whitespace_tokenizer import whitespace_tokenizer
from headway.exporter.targets.web.page_tokenizer import LINES, compare_in_javascript, ids_in_javascript
from headway.exporter.tokenizer.check import unicode_lines
from headway.exporter.tokenizer.reader.characters import CODES, DENSE, SPARSE
from headway.manifest import TokenizerInfo
from headway.text import TextEncoder

from tests.support import tokenizers_of
from tests.support.node import ROOT, needs_node

make = cache(tokenizers_of.make)  # each is trained for seconds


@needs_node
@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", tokenizers_of.KINDS)
def test_ids_of_the_page_are_the_tokenizers_on_mixed_lines(kind: str, count: int, tmp_path: Path) -> None:
    directory = tokenizers_of.save(make(kind), tmp_path / "tokenizer")
    record = compare_in_javascript(directory, TokenizerInfo("tokenizer.json", 64, 0, 0, "[PAD]"), count)
    assert record["lines"] == count
    assert record["page"] == "equal on all"


def test_exports_compare_ten_thousand_lines() -> None:
    assert LINES == 10_000 and signature(compare_in_javascript).parameters["count"].default == LINES


@needs_node
@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_pairs_are_joined_and_cut_alike(kind: str, tmp_path: Path) -> None:
    directory = tokenizers_of.save(make(kind), tmp_path / "tokenizer")
    lines = unicode_lines(1, 400)
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    for longest in (7, 8, 24):
        encoder = TextEncoder(directory / "tokenizer.json", TokenizerInfo("tokenizer.json", longest, 0, 0, "[PAD]"))
        assert ids_in_javascript(directory, pairs, longest) == [e.ids for e in encoder.encode(pairs)]


@needs_node
@pytest.mark.parametrize("codes", [DENSE + SPARSE, pytest.param(CODES, marks=pytest.mark.slow)], ids=["used", "all"])
def test_every_character_there_is_has_the_ids_that_the_library_gives_it(codes: list[int], tmp_path: Path) -> None:
    """`used`: of the planes that are private or still empty, only some characters."""
    tokenizer = make("bert")
    directory = tokenizers_of.save(tokenizer, tmp_path / "tokenizer")
    characters = list(map(chr, codes))
    lines = [f"a{'b'.join(characters[i : i + 64])}1" for i in range(0, len(characters), 64)]
    assert ids_in_javascript(directory, lines, 10_000) == [e.ids for e in tokenizer.encode_batch(lines)]


@needs_node
def test_words_of_word_embeddings_have_the_ids_that_the_library_gives_them(tmp_path: Path) -> None:
    words = [
        "pad",
        "u.s.",
        "foo-Bar",
        "foo-bar",
        "Apple",
        "apple",
        "(a)",
        "c#",
        "a&b~",
        "x|y",
        "--",
        "don't",
        "\\o/",
        "$5",
    ]
    tokenizer = whitespace_tokenizer(words, {"--"}, lower=False, place="here")
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    lines = [*words, " ".join(words), '"Apple,\tapple.\x1cAPPLE foo-Bar! (FOO-BAR)', "the #c# [a&b~] {x|y}", "", "--"]
    assert ids_in_javascript(tmp_path, lines, 64) == [e.ids for e in tokenizer.encode_batch(lines)]


@needs_node
def test_a_reader_that_differs_is_refused_by_the_class_of_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page"
    shutil.copytree(ROOT / "exporter" / "targets" / "web" / "page", page, ignore=shutil.ignore_patterns("node_modules"))
    tables = json.loads((page / "unicode.json").read_text())
    (page / "unicode.json").write_text(json.dumps(tables | {"lower": tables["lower"][:26]}))
    monkeypatch.setattr("headway.exporter.targets.web.page_tokenizer._READER", page / "ids.mjs")
    directory = tokenizers_of.save(make("bert"), tmp_path / "tokenizer")
    info = TokenizerInfo("tokenizer.json", 64, 0, 0, "[PAD]")
    with pytest.raises(GateError, match=r"(?s)the tokenizer of the page: .*letters beyond ASCII"):
        compare_in_javascript(directory, info, 2000)


@needs_node
def test_a_tokenizer_of_another_kind_is_named(tmp_path: Path) -> None:
    directory = tokenizers_of.save(make("bert"), tmp_path / "tokenizer")
    content = json.loads((directory / "tokenizer.json").read_text())
    content["pre_tokenizer"] = {"type": "UnicodeScripts"}
    (directory / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(TargetError, match="pre-tokenizer UnicodeScripts is not known"):
        ids_in_javascript(directory, ["a"], 8)
