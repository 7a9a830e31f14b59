"""Tokenizers as a bundle runs them and as the reader for phones does, side by side."""

import json
import random
import unicodedata
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as kinds

from headway.exporter.tokenizer.check import unicode_lines
from headway.exporter.tokenizer.reader import native
from headway.exporter.tokenizer.reader.compact import compact_file
from headway.kernels.cpu import build
from headway.manifest import TokenizerInfo
from headway.text import TextEncoder

from tests.support.tokenizers_of import charsmap

LONGEST = 64
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
needs_compiler = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")


def bert(clean: bool = True, chinese: bool = True, accents: bool | None = None, lower: bool = True) -> Any:
    return normalizers.BertNormalizer(
        clean_text=clean, handle_chinese_chars=chinese, strip_accents=accents, lowercase=lower
    )


@cache
def learned(size: int) -> str:
    """WordPiece, learned from mixed Unicode lines with their case and accents, so that its pieces are of all kinds."""
    tokenizer = Tokenizer(kinds.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = bert(lower=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(unicode_lines(1, 1500), trainer)
    # With such a token the table of characters holds spaces: all tests of these tokenizers read the same table.
    tokenizer.add_special_tokens([AddedToken("<m>", lstrip=True)])
    return tokenizer.to_str()


def bert_tokenizer(normalizer: Any = None, pre_tokenizer: Any = None, size: int = 3000) -> Tokenizer:
    tokenizer = Tokenizer.from_str(learned(size))
    tokenizer.normalizer = normalizer or bert()
    tokenizer.pre_tokenizer = pre_tokenizer or pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = bert_template(tokenizer)
    return tokenizer


def bert_template(tokenizer: Tokenizer) -> Any:
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")],
    )


class Both:
    """A tokenizer as the bundle runs it, and as the reader does."""

    def __init__(self, tokenizer: Tokenizer, folder: Path):
        self.file = folder / "tokenizer.json"
        self.file.write_text(tokenizer.to_str())
        pad = next(t for t in ("[PAD]", "<pad>") if tokenizer.token_to_id(t) is not None)
        self.info = TokenizerInfo(self.file.name, LONGEST, tokenizer.token_to_id(pad), 0, pad)
        self.data = compact_file(json.loads(tokenizer.to_str()), self.info)
        self.reader = native.NativeReader(self.data)
        self.encoder = TextEncoder(self.file, self.info)

    def agree(self, text: str, pair: str | None = None, longest: int = LONGEST) -> None:
        [expected] = self.encoder.encode([text if pair is None else (text, pair)], longest)
        ids, mask, types, count = self.reader.encode(text, pair, longest)
        assert (ids[:count], types[:count]) == (expected.ids, expected.type_ids), (text, pair)
        padding = longest - count
        assert mask == [1] * count + [0] * padding
        assert ids[count:] == [self.info.pad_id] * padding and types[count:] == [0] * padding


@cache
def learned_bytes() -> str:
    """Byte-level BPE, as RoBERTa's, learned from mixed Unicode lines."""
    tokenizer = Tokenizer(kinds.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=["[CLS]", "[PAD]", "[SEP]"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(unicode_lines(1, 600), trainer)
    tokenizer.add_special_tokens([AddedToken("<m>", lstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("[SEP]", 2), ("[CLS]", 0))
    return tokenizer.to_str()


def byte_pairs(add_prefix_space: bool) -> Tokenizer:
    tokenizer = Tokenizer.from_str(learned_bytes())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    return tokenizer


def replacements() -> dict[str, str]:
    """As sentencepiece's: compatibility characters, and letters with an accent put together."""
    rules: dict[str, str] = {}
    for char in map(
        chr, (*range(0xA0, 0x2000), *range(0x2000, 0x3400), *range(0xF900, 0xFB07), *range(0xFE70, 0xFFEF))
    ):
        if not unicodedata.is_normalized("NFKC", char):
            rules[char] = unicodedata.normalize("NFKC", char)
        elif len(composed := unicodedata.normalize("NFD", char)) == 2:
            rules[composed] = char
    return rules | {
        "\n": " ",
        "\u1161": "A",  # no replacement that sentencepiece has, but one that shows where syllables end
        "\u11a8": "K",
        "\t": " ",
        "\u200b": " ",
        "\r\n": " ",
        "\xad": "",
    }


@cache
def unigram() -> str:
    """Pieces with scores, as XLM-R's."""
    rng = random.Random(0)
    lines = unicode_lines(1, 1500)
    counts = Counter(piece for line in lines for word in line.split() for piece in (f"▁{word[:4]}", word[-3:], *word))
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *(p for p, n in counts.items() if n > 1 and p)]
    vocabulary = [(p, 0.0 if i < 4 else -rng.expovariate(0.1)) for i, p in enumerate(dict.fromkeys(pieces))]
    tokenizer = Tokenizer(kinds.Unigram(vocabulary, 3, False))
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", AddedToken("<mask>", lstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer.to_str()


def sentencepiece(name: str) -> Tokenizer:
    tokenizer = Tokenizer.from_str(unigram())
    clusters, one_space = normalizers.Precompiled(charsmap(replacements())), normalizers.Replace(Regex(" {2,}"), " ")
    metaspace = pre_tokenizers.Metaspace()
    if name == "XLM-R":
        tokenizer.normalizer = clusters
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    elif name == "ALBERT":
        quotes = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
        letters = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
        tokenizer.normalizer = normalizers.Sequence([*quotes, *letters, clusters, one_space])
        tokenizer.pre_tokenizer = metaspace
    elif name == "DeBERTa-v2":
        white_space = normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " ")
        strip = normalizers.Strip(left=False, right=True)
        tokenizer.normalizer = normalizers.Sequence([white_space, normalizers.NFC(), strip])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Punctuation("isolated"), metaspace])
    else:
        content = json.loads(tokenizer.to_str())
        narrow = [[p, float(np.float32(score))] for p, score in content["model"]["vocab"]]
        tokenizer = Tokenizer.from_str(json.dumps(content | {"model": content["model"] | {"vocab": narrow}}))
        tokenizer.normalizer = normalizers.Sequence([clusters, one_space])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    return tokenizer
