"""Small tokenizers of every family's kind, trained on text in two dozen languages."""

import json
from collections.abc import Mapping
from pathlib import Path
from struct import pack

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from headway.calibration.corpus import builtin_lines

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

_WORDS = ["the", "quick", "brown", "fox", "doesn't", "jump", "over", "12", "dogs", "and", "3,400", "cats"]


def make(kind: str) -> Tokenizer:
    """Return a tokenizer of one of `KINDS`."""
    return KINDS[kind]()


def save(tokenizer: Tokenizer, directory: Path) -> Path:
    """Write it as transformers.js and the page read it."""
    directory.mkdir(parents=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizer"}))
    return directory


def _wordpiece(lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=3000, special_tokens=_SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def _bytes(normalizer: normalizers.Normalizer | None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=_SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2), add_prefix_space=False)
    return tokenizer


def _unigram(*steps: normalizers.Normalizer) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    rules = normalizers.Precompiled(charsmap(_RULES))
    tokenizer.normalizer = normalizers.Sequence([*steps, rules, spaces])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=2500, special_tokens=_SPECIAL, unk_token="[UNK]", show_progress=False)
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens([AddedToken("[MASK]", lstrip=True, special=True)])
    return tokenizer


def _corpus() -> list[str]:
    return [*builtin_lines(), *_WORDS * 5]


_RULES = {
    **{chr(c): chr(c - 0xFEE0) for c in range(0xFF01, 0xFF5F)},
    **{c: " " for c in "\t\n\r\xa0\u3000\u200b\u200e\u2028"},
    **{c: "" for c in "\x01\x02\x1f\x7f\u200d\ufeff"},
    "e\u0301": "é",
    "a\u0308": "ä",
    "ﬁ": "fi",
    "㌔": "キロ",
    "\u064b": "",
}
"""A few rules of each sort that SentencePiece's own maps have."""


def charsmap(rules: Mapping[str, str]) -> bytes:
    """Rules of replacement as SentencePiece stores them: a double-array trie of UTF-8 keys, and their texts behind it.

    Source: the comments of darts-clone's `DoubleArrayUnit`: label in bits 0-7, leaf in bit 8, scale of the offset in bit 9.
    """
    states: list[dict[int, int]] = [
        {}
    ]  # each leads from a byte to the next one; it takes the units from 256 (number + 1) on
    ends: dict[int, str] = {}
    for key, text in rules.items():
        state = 0
        for byte in key.encode():
            if byte not in states[state]:
                states[state][byte] = len(states)
                states.append({})
            state = states[state][byte]
        ends[state] = text
    units = np.zeros(256 * (len(states) + 1), "<u4")
    units[0] = 256 << 10
    texts = bytearray()
    for number, following in enumerate(states):
        base = 256 * (number + 1)
        if number in ends:
            units[base] = 1 << 31 | len(texts)
            texts += ends[number].encode() + b"\0"
        for byte, state in following.items():
            at = base ^ byte
            step = at ^ 256 * (state + 1)
            units[at] = byte | (state in ends) << 8 | (step << 10 if step < 1 << 21 else step >> 8 << 10 | 1 << 9)
    return pack("<I", units.nbytes) + units.tobytes() + bytes(texts)


KINDS = {
    "bert": lambda: _wordpiece(True),
    "bert, cased": lambda: _wordpiece(False),
    "roberta": lambda: _bytes(None),
    "modernbert": lambda: _bytes(normalizers.NFC()),
    "xlm-roberta": lambda: _unigram(),
    "albert": lambda: _unigram(normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()),
}
