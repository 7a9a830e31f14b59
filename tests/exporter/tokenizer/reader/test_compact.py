"""Compact files of every kind of tokenizer: the same ids as the source's, and a clear error where a part is not read exactly."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, processors

from headway.errors import SourceError
from headway.exporter.tokenizer.check import unicode_lines
from headway.exporter.tokenizer.reader import check_reader, compact
from headway.exporter.tokenizer.reader.characters import CODE_POINTS, Characters
from headway.exporter.tokenizer.reader.compact import compact_file
from headway.manifest import TokenizerInfo

from tests.support.phone_tokenizers import (
    LONGEST,
    SPECIAL,
    Both,
    bert,
    bert_tokenizer,
    byte_pairs,
    needs_compiler,
    sentencepiece,
)

# Text that looks for trouble: every plane, marks in any order, case specials, separators of all kinds, special tokens.
TEXT = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.text(st.characters(codec="utf-8", categories=["Mn", "Mc", "Me"]), max_size=5),
        st.text(
            st.sampled_from(
                "aİıßΣςǅK\u0345\u0301\u0323\u302e\U0001d165\U0001d16d\U00016ff0\u0f71가각豈中 [SEP]#\x00\ufffd\xad"
            )
        ),
        st.sampled_from([*SPECIAL, "<m>", "<w>", " ", "\u3000", "model", "##s", "the"]),
    ),
    max_size=8,
).map("".join)
NORMALIZERS = {
    "uncased": bert(),
    "cased": bert(lower=False),
    "cased, accents stripped": bert(accents=True, lower=False),
    "uncased, accents kept": bert(accents=False),
    "nothing cleaned": bert(clean=False, chinese=False),
    "taken apart": normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase()]),
    "put together": normalizers.NFC(),
    "put together, words and punctuation": normalizers.NFC(),
    "put together, compatible": normalizers.Sequence([normalizers.Lowercase(), normalizers.NFKC()]),
    "stripped in steps": normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]),
}
PRE_TOKENIZERS = {
    "words and punctuation": pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]),
}
PRE_TOKENIZERS["put together, words and punctuation"] = PRE_TOKENIZERS["words and punctuation"]
QUICK = ["uncased", "nothing cleaned", "stripped in steps", "put together, words and punctuation"]
# Each has a table of its own, which takes seconds to read, of parts that are in the tables above.
LONG = [
    "cased",
    "cased, accents stripped",
    "uncased, accents kept",
    "taken apart",
    "put together",
    "put together, compatible",
    "words and punctuation",
]


@pytest.fixture(scope="module")
def settings_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Both]:
    by_name: dict[str, Both] = {}

    def get(name: str) -> Both:
        if name not in by_name:
            tokenizer = bert_tokenizer(NORMALIZERS.get(name), PRE_TOKENIZERS.get(name), size=3000)
            tokenizer.add_special_tokens(
                [AddedToken("<m>", lstrip=True), AddedToken("<w>", single_word=True), AddedToken("<r>", rstrip=True)]
            )
            tokenizer.add_tokens([AddedToken("Über Model"), AddedToken("中 ", normalized=False), "é́", "KELVIN"])
            by_name[name] = Both(tokenizer, tmp_path_factory.mktemp("settings"))
        return by_name[name]

    return get


@needs_compiler
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LONG)])
def test_settings_of_bert(settings_of: Callable[[str], Both], name: str) -> None:
    both = settings_of(name)
    added = [
        "a <m> \u2003<m>b",
        "<w> a<w> <w>!",
        "x<r> \u3000\x1cb",
        "über model ÜBER MODEL",
        "中 中",
        "é́e\u0301\u0301",
        "\u212aELVIN kelvin",
    ]
    lines = [*added, *(f"{a}{b}" for a, b in zip(unicode_lines(3, 600), added * 86, strict=False))]
    check_reader(both.data, both.file, both.info, lines).require(name)

    @settings(max_examples=120, deadline=None)
    @given(text=TEXT, pair=st.none() | TEXT, longest=st.integers(3, 24))
    def any_text(text: str, pair: str | None, longest: int) -> None:
        both.agree(text, pair, longest)

    any_text()


def test_added_tokens_that_normalize_alike_are_refused() -> None:
    """Which of them the library takes is chance: one file, read twice, gives either id."""
    tokenizer = bert_tokenizer(bert(), size=400)
    tokenizer.add_tokens([AddedToken("Rain Zoo", normalized=True)])
    tokenizer.add_special_tokens([AddedToken("RAIN ZOO", normalized=True)])
    info = TokenizerInfo("tokenizer.json", 64, 0, 0, "[PAD]")
    with pytest.raises(SourceError, match=r"normalization makes one, '(Rain Zoo|RAIN ZOO)' and '(Rain Zoo|RAIN ZOO)'"):
        compact_file(json.loads(tokenizer.to_str()), info)


@needs_compiler
@pytest.mark.parametrize("add_prefix_space", [False, True])
def test_byte_level_bpe(add_prefix_space: bool, tmp_path: Path) -> None:
    both = Both(byte_pairs(add_prefix_space), tmp_path)
    clitics = ["I'll we've 's 'S ''s x'd'd they're'", "  a  \n\n b\u3000\u3000c \t", " <m>  <m>x", "don't 12'3 ½'t"]
    check_reader(both.data, both.file, both.info, clitics + unicode_lines(0, 1000)).require("byte-level BPE")

    @settings(max_examples=150, deadline=None)
    @given(text=TEXT | st.text("'sltdrevmSa1 \n\u3000½", max_size=30), pair=st.none() | TEXT)
    def any_text(text: str, pair: str | None) -> None:
        both.agree(text, pair, 40)

    any_text()


# Each ends in a character with a replacement and a mark: only where it belongs to the cluster before it, the mark stays.
JOINED = [
    "☺\u200d™\u0301",
    "☺\ufe0f\u200d㊙\u0301",
    "☺\u200d\u200d™\u0301",
    "क\u094d\u0958\u0301",
    "क\u093c\u094d\u200d\u0958\u0301",
]
JOINED += [
    "\u1100\u1161\u0301",
    "\u1100\u1100\u1161\u0301",
    "가\u11a8\u0301",
    "각\u11a8\u0301",
    "\u11a8\u1161\u0301",
    "각\u1161\u0301",
]
# Characters that join into clusters, or keep them apart.
CLUSTERS = "aeé\u0301\u0323\u0340\u0344\u0600\u06dd©®☺\u200d\u200c\ufe0f🇦🏻①ﬁ½ \u3000\xa0▁\r\n\x00\x01"
CLUSTERS += "\u1100\u1161\u11a8가각ｱﾞ\uff76\u3099क\u094dक\u0930"


@needs_compiler
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("XLM-R", marks=pytest.mark.slow),
        pytest.param("ALBERT", marks=pytest.mark.slow),
        "DeBERTa-v2",
        "narrow scores",
    ],
)
def test_unigram(name: str, tmp_path: Path) -> None:
    both = Both(sentencepiece(name), tmp_path)
    check_reader(both.data, both.file, both.info, unicode_lines(0, 1000)).require(name)
    for text in JOINED:  # with what is behind the first character of a cluster too, and with half a cluster before
        for line in (text, text + "\u0302", text[1:], "\u0600" + text, "\n" + text, "a\u0323" + text):
            both.agree(line)

    @settings(max_examples=250, deadline=None)
    @given(text=TEXT | st.text(CLUSTERS, max_size=10), pair=st.none() | TEXT)
    def any_text(text: str, pair: str | None) -> None:
        both.agree(text, pair, 40)

    any_text()


def test_files_of_older_libraries_are_read() -> None:
    content = json.loads(sentencepiece("ALBERT").to_str())
    older = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
    info = TokenizerInfo("tokenizer.json", LONGEST, 1, 0, "<pad>")
    assert compact_file(content | {"pre_tokenizer": older}, info) == compact_file(content, info)


@needs_compiler
@settings(max_examples=60, deadline=None)
@given(text=TEXT, pair=TEXT)
def test_post_processors(uncased: Both, tmp_path_factory: pytest.TempPathFactory, text: str, pair: str) -> None:
    for both in _post_processed(tmp_path_factory):
        both.agree(text)
        both.agree(text, pair, 9)


_POST_PROCESSED: list[Both] = []


def _post_processed(factory: pytest.TempPathFactory) -> list[Both]:
    if not _POST_PROCESSED:
        sep, cls = ("[SEP]", 3), ("[CLS]", 2)
        twice = processors.TemplateProcessing(
            single="[CLS] $A:0 [SEP]:0", pair="$B:1 [SEP]:1 $A:0", special_tokens=[sep, cls]
        )
        for processor in (
            processors.BertProcessing(sep, cls),
            processors.RobertaProcessing(sep, cls),
            processors.Sequence([processors.ByteLevel(), twice]),
            None,
        ):
            tokenizer = bert_tokenizer(size=400)
            content = json.loads(tokenizer.to_str()) | {"post_processor": None}
            tokenizer = Tokenizer.from_str(json.dumps(content))
            if processor is not None:
                tokenizer.post_processor = processor
            _POST_PROCESSED.append(Both(tokenizer, factory.mktemp("processed")))
    return _POST_PROCESSED


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"normalizer": {"type": "Nmt"}}, "a normalizer of type Nmt"),
        (
            {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}},
            "more than once",
        ),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "NFD"}]}}, "more than once"),
        ({"pre_tokenizer": {"type": "UnicodeScripts"}}, "behind a pre-tokenizer of type UnicodeScripts"),
        ({"pre_tokenizer": {"type": "Punctuation", "behavior": "Removed"}}, "behavior 'Removed'"),
        (
            {"model": {"type": "BPE", "vocab": {}, "merges": []}},
            "a BPE model behind a pre-tokenizer of type BertPreTokenizer",
        ),
        ({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}, "a model of type WordLevel"),
        ({"added_tokens": [{"id": 5, "content": "\u200b", "special": False, "normalized": True}]}, "leaves nothing"),
    ],
)
def test_what_is_not_read_exactly_is_refused(changes: dict[str, Any], named: str) -> None:
    content = json.loads(bert_tokenizer(size=300).to_str())
    plain = {"single_word": False, "lstrip": False, "rstrip": False}
    if "added_tokens" in changes:
        changes = {"added_tokens": [plain | t for t in changes["added_tokens"]]}
    with pytest.raises(SourceError, match="does not read exactly") as refused:
        compact_file(content | changes, TokenizerInfo("tokenizer.json", LONGEST, 0, 0, "[PAD]"))
    assert named in str(refused.value) and "tokenizers library itself" in str(refused.value)


@pytest.mark.parametrize(
    ("lower", "accents", "twice"), [(False, None, False), (True, False, False), (True, None, True), (False, True, True)]
)
def test_marks_may_be_put_into_order_once(
    lower: bool, accents: bool | None, twice: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BERT's normalizer decomposes text only where it strips accents: where told to, or else where it lowers."""
    kinds, flags, ranks, joins = np.zeros((4, CODE_POINTS), np.uint8)
    empty = Characters(kinds, flags, ranks, joins, {})
    monkeypatch.setattr(compact, "read_characters", lambda content, spaces: empty)  # the real table takes seconds
    steps = normalizers.Sequence([normalizers.NFD(), bert(lower=lower, accents=accents)])
    content = json.loads(bert_tokenizer(steps, size=300).to_str())
    info = TokenizerInfo("tokenizer.json", LONGEST, 0, 0, "[PAD]")
    with pytest.raises(SourceError, match="more than once") if twice else nullcontext():
        compact_file(content, info)
