"""Write a `tokenizer.json` as the compact file that the reader on a phone loads. Only what is read exactly is written."""

import base64
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from ....errors import SourceError
from ....manifest import TokenizerInfo
from .characters import CODE_POINTS, Characters, Kind, read_characters, read_compositions
from .graphemes import read_joins, read_replacements

MAGIC = b"HWTK"
VERSION = 1
_UNKNOWN_PENALTY = 10.0  # the score of a character in no token is this much below the lowest score
_IN_UTF_8 = [byte for byte in range(0xF5) if byte not in (0xC0, 0xC1)]
_SPECIAL, _TEXT, _PAIR = range(3)
_Part = tuple[int, int, int]
"""Kind, token type, and the id of a special token."""


def compact_file(tokenizer: Mapping[str, Any], info: TokenizerInfo) -> bytes:
    """Return the compact file of a `tokenizer.json`. Raise SourceError naming a component that the reader does not read exactly."""
    from tokenizers import Tokenizer

    try:  # in the form of the installed library, whichever version wrote it
        content = json.loads(Tokenizer.from_str(json.dumps(tokenizer)).to_str())
    except Exception as error:  # tokenizers raises plain Exception
        raise SourceError(f"the tokenizer cannot be read ({error})") from error
    model = _model(content)
    single, pair = _templates(content.get("post_processor"))
    body = b"".join(
        [
            *map(_number, (info.max_length, info.pad_id, info.pad_type_id)),
            _template(single),
            _template(pair),
            _normalization(content),
            *_added_tokens(content),
            model,
        ]
    )
    return MAGIC + _number(VERSION) + zlib.crc32(body).to_bytes(4, "little") + body


def refuse(what: str) -> SourceError:
    """Return the error that says what is not read, and the ways out."""
    return SourceError(
        f"the tokenizer has {what}, which Headway's reader for phones does not read exactly, and approximating it would give other "
        "token ids. Ways out: run Hugging Face's tokenizers library itself on the phone (Rust, with the bundle's tokenizer.json), "
        "or put the tokenizer into the graph (onnxruntime-extensions) after comparing it with headway.exporter.tokenizer.check"
    )


def _only(part: Mapping[str, Any], what: str, **expected: Any) -> None:
    """Refuse a component whose settings are not the expected ones; settings without effect here are not named."""
    for name, value in expected.items():
        if part.get(name) != value:
            raise refuse(f"{what} with {name} {part.get(name)!r}")


def _steps(part: Mapping[str, Any] | None, within: str) -> list[Mapping[str, Any]]:
    if part is None:
        return []
    if part["type"] == "Sequence":
        return [step for inner in part[within] for step in _steps(inner, within)]
    return [part]


_BY_CHARACTER = ("BertNormalizer", "Lowercase", "NFD", "NFKD", "StripAccents")
_CHARACTERS, _CLUSTERS, _REPLACE, _ONE_SPACE, _COMPOSE, _WHITE_SPACE, _STRIP_LEFT, _STRIP_RIGHT = range(8)
_COMPOSED = {"NFC": "NFD", "NFKC": "NFKD"}
"""The decomposition that runs before the composition of each form."""


def _normalization(content: Mapping[str, Any]) -> bytes:
    """Return the table of characters, and the steps of normalization, of which applying the table is one."""
    steps: list[Mapping[str, Any]] = []
    for step in _steps(content.get("normalizer"), "normalizers"):
        apart = _COMPOSED.get(step["type"])
        steps += [{"type": apart}, {"type": "Compose"}] if apart else [step]
    by_character = [step for step in steps if step["type"] in _BY_CHARACTER]
    written: list[bytes] = []
    clusters = spaces = False
    for number, step in enumerate(steps):
        kind = step["type"]
        if kind in _BY_CHARACTER:
            if number == 0 or steps[number - 1]["type"] not in _BY_CHARACTER:
                written.append(_number(_CHARACTERS))
        elif kind == "Compose":
            written.append(_compositions(sorted(read_compositions().items())))
        elif kind == "Precompiled":
            clusters = True
            written.append(_clusters(base64.b64decode(step["precompiled_charsmap"])))
        elif kind == "Replace" and step["pattern"] == {"Regex": " {2,}"} and step["content"] == " ":
            written.append(_number(_ONE_SPACE))
        elif kind == "Replace" and step["pattern"] == {"Regex": r"\s{2,}|[\n\r\t]"} and step["content"] == " ":
            spaces = True
            written.append(_number(_WHITE_SPACE))
        elif kind == "Strip":
            spaces = True
            sides = ((_STRIP_LEFT, step["strip_left"]), (_STRIP_RIGHT, step["strip_right"]))
            written += [_number(side) for side, stripped in sides if stripped]
        elif kind == "Replace" and step["pattern"].get("String"):
            written.append(
                _number(_REPLACE) + _string(step["pattern"]["String"].encode()) + _string(step["content"].encode())
            )
        else:
            raise refuse(
                f"a normalizer of type {kind}" + (f" with pattern {step['pattern']}" if kind == "Replace" else "")
            )
    orders = sum(map(_puts_in_order, by_character))
    if orders > 1 or written.count(_number(_CHARACTERS)) > 1:
        raise refuse("normalizers that change characters, or put marks into order, more than once")
    table = {"normalizer": {"type": "Sequence", "normalizers": by_character} if by_character else None}
    splits = [s for s in _steps(content.get("pre_tokenizer"), "pretokenizers") if s["type"] != "Metaspace"]
    if len(splits) < len(_steps(content.get("pre_tokenizer"), "pretokenizers")):
        table["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": splits} if splits else None
    characters = read_characters(dict(content) | table, spaces=spaces)
    if clusters:
        characters = replace(characters, joins=read_joins())
    return _characters(characters) + _number(len(written)) + b"".join(written)


def _compositions(pairs: Sequence[tuple[tuple[int, int], int]]) -> bytes:
    numbers = [_COMPOSE, len(pairs), *(n for (first, second), composed in pairs for n in (first, second, composed))]
    return b"".join(map(_number, numbers))


def _puts_in_order(step: Mapping[str, Any]) -> bool:
    strips = step.get("strip_accents")
    bert = bool(step.get("lowercase") if strips is None else strips)
    return step["type"] in ("NFD", "NFKD") or (step["type"] == "BertNormalizer" and bert)


def _clusters(charsmap: bytes) -> bytes:
    replacements = read_replacements(charsmap)
    keys = sorted(replacements)
    for key in keys:
        try:
            key.decode()
            replacements[key].decode()
        except UnicodeDecodeError as error:
            raise refuse(f"a Precompiled normalizer whose key {key!r} is not UTF-8") from error
    return _number(_CLUSTERS) + _strings(keys) + b"".join(_string(replacements[key]) for key in keys)


def _check_words(part: Mapping[str, Any] | None) -> None:
    for step in _steps(part, "pretokenizers"):
        kind = step["type"]
        if kind == "Punctuation":
            _only(step, "a Punctuation pre-tokenizer", behavior="Isolated")
        elif kind not in ("BertPreTokenizer", "WhitespaceSplit"):
            raise refuse(f"a WordPiece model behind a pre-tokenizer of type {kind}")


def _templates(part: Mapping[str, Any] | None) -> tuple[list[_Part], list[_Part]]:
    steps = [s for s in _steps(part, "processors") if s["type"] != "ByteLevel"]  # which only changes offsets
    if not steps:
        return [(_TEXT, 0, 0)], [(_TEXT, 0, 0), (_PAIR, 1, 0)]
    if len(steps) > 1:
        raise refuse("several post-processors")
    step = steps[0]
    if step["type"] == "TemplateProcessing":
        specials = step["special_tokens"]
        return _parts(step["single"], specials), _parts(step["pair"], specials)
    if step["type"] not in ("BertProcessing", "RobertaProcessing"):
        raise refuse(f"a post-processor of type {step['type']}")
    start, end = (_SPECIAL, 0, step["cls"][1]), (_SPECIAL, 0, step["sep"][1])
    if step["type"] == "BertProcessing":
        pair = [start, (_TEXT, 0, 0), end, (_PAIR, 1, 0), (_SPECIAL, 1, step["sep"][1])]
    else:
        pair = [start, (_TEXT, 0, 0), end, end, (_PAIR, 0, 0), end]
    return [start, (_TEXT, 0, 0), end], pair


def _parts(template: Iterable[Mapping[str, Any]], specials: Mapping[str, Any]) -> list[_Part]:
    parts = []
    for item in template:
        [(kind, part)] = item.items()
        if kind == "Sequence":
            parts.append(({"A": _TEXT, "B": _PAIR}[part["id"]], part["type_id"], 0))
        else:
            parts += [(_SPECIAL, part["type_id"], i) for i in specials[part["id"]]["ids"]]
    return parts


def _added_tokens(content: dict[str, Any]) -> list[bytes]:
    """Return added tokens that are matched in the text as it is, and those that are matched in normalized text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps(content))
    decoder = tokenizer.get_added_tokens_decoder()
    tokens_by_form: tuple[dict[bytes, bytes], dict[bytes, bytes]] = ({}, {})
    names: dict[str, str] = {}
    for token_id, token in decoder.items():
        text = token.content
        if token.normalized and tokenizer.normalizer is not None:
            text = tokenizer.normalizer.normalize_str(text)
        if not text:
            raise refuse(f"an added token, {token.content!r}, of which normalization leaves nothing")
        if tokenizer.token_to_id(token.content) != token_id:
            raise refuse(f"an added token, {token.content!r}, with two ids")
        flags = token.single_word | token.lstrip << 1 | token.rstrip << 2
        if token.normalized and names.setdefault(text, token.content) != token.content:
            # tokenizers takes one or the other, by chance each time the file is read
            raise refuse(f"added tokens that normalization makes one, {names[text]!r} and {token.content!r}")
        tokens_by_form[token.normalized][text.encode()] = _number(token_id) + bytes([flags])
    return [_strings(sorted(tokens)) + b"".join(tokens[t] for t in sorted(tokens)) for tokens in tokens_by_form]


def _model(content: Mapping[str, Any]) -> bytes:
    model, pre_tokenizer = content["model"], content.get("pre_tokenizer")
    if model.get("type") == "WordPiece":
        _check_words(pre_tokenizer)
        return _number(0) + _word_piece(model)
    if model.get("type") == "BPE":
        return _number(1) + _byte_pairs(model, pre_tokenizer)
    if model.get("type") == "Unigram":
        return _number(2) + _unigram(model, pre_tokenizer)
    raise refuse(f"a model of type {model.get('type')}")


def _word_piece(model: Mapping[str, Any]) -> bytes:
    vocabulary = {token.encode(): i for token, i in model["vocab"].items() if token}
    unknown = vocabulary.get(model["unk_token"].encode())
    if unknown is None:
        raise refuse(f"an unknown token, {model['unk_token']!r}, that is not in its vocabulary")
    tokens = sorted(vocabulary)
    return b"".join(
        [
            _number(unknown),
            _number(model["max_input_chars_per_word"]),
            _string(model["continuing_subword_prefix"].encode()),
            _strings(tokens),
            *(_number(vocabulary[t]) for t in tokens),
        ]
    )


def _byte_pairs(model: Mapping[str, Any], pre_tokenizer: Mapping[str, Any] | None) -> bytes:
    if pre_tokenizer is None or pre_tokenizer["type"] != "ByteLevel":
        kind = pre_tokenizer["type"] if pre_tokenizer else None
        raise refuse(f"a BPE model behind a pre-tokenizer of type {kind}")
    _only(pre_tokenizer, "a ByteLevel pre-tokenizer", use_regex=True)
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges", "byte_fallback"):
        if model.get(name):
            raise refuse(f"a BPE model with {name} {model[name]!r}")
    vocabulary = model["vocab"]
    letters = _letters()
    if missing := [byte for byte in _IN_UTF_8 if letters[byte] not in vocabulary]:
        raise refuse(f"a BPE model without tokens for {len(missing)} bytes, {missing[0]:#04x} the first")
    pairs = [tuple(m.split(" ", 1)) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    rank = {pair: i for i, pair in enumerate(pairs)}  # of a pair given twice the last counts
    merges = sorted(rank, key=lambda pair: rank[pair])
    written = [
        bytes([bool(pre_tokenizer["add_prefix_space"])]),
        *(_number(vocabulary.get(c, 0)) for c in letters),
        _number(len(merges)),
    ]
    before = 0
    for left, right in merges:
        merged = vocabulary[left + right]
        step = merged - before
        written += [
            _number(vocabulary[left]),
            _number(vocabulary[right]),
            _number(-2 * step - 1 if step < 0 else 2 * step),
        ]
        before = merged
    return b"".join(written)


def _unigram(model: Mapping[str, Any], pre_tokenizer: Mapping[str, Any] | None) -> bytes:
    steps = _steps(pre_tokenizer, "pretokenizers")
    kinds = [step["type"] for step in steps]
    if kinds not in (["Metaspace"], ["WhitespaceSplit", "Metaspace"], ["Punctuation", "Metaspace"]):
        raise refuse(f"a Unigram model behind pre-tokenizers of types {', '.join(kinds) or 'none'}")
    if steps[-1]["prepend_scheme"] not in ("always", "never"):
        raise refuse(f"a Metaspace pre-tokenizer with prepend_scheme {steps[-1]['prepend_scheme']!r}")
    _only(steps[-1], "a Metaspace pre-tokenizer", split=True)
    if kinds[0] == "Punctuation":
        _only(steps[0], "a Punctuation pre-tokenizer", behavior="Isolated")
    if model.get("byte_fallback"):
        raise refuse("a Unigram model with byte_fallback")
    if model.get("unk_id") is None:
        raise refuse("a Unigram model without an unknown token")
    ids = {
        token.encode(): i for i, (token, _) in enumerate(model["vocab"]) if token
    }  # of a token given twice the last counts
    tokens = sorted(ids)
    scores = np.array([model["vocab"][ids[t]][1] for t in tokens], np.float64)
    narrow = bool((scores.astype(np.float32) == scores).all())
    unknown = min(score for _, score in model["vocab"]) - _UNKNOWN_PENALTY
    return b"".join(
        [
            bytes([kinds[0] == "WhitespaceSplit", steps[-1]["prepend_scheme"] == "always"]),
            _string(steps[-1]["replacement"].encode()),
            _number(model["unk_id"]),
            np.float64(unknown).astype("<f8").tobytes(),
            bytes([4 if narrow else 8]),
            _strings(tokens),
            *(_number(ids[t]) for t in tokens),
            scores.astype("<f4" if narrow else "<f8").tobytes(),
        ]
    )


def _letters() -> list[str]:
    """Return the character for each byte in a byte-level vocabulary (GPT-2's): itself where it prints in Latin-1, else one beyond."""
    prints = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    beyond = iter(range(0x100, 0x200))
    return [chr(byte if byte in prints else next(beyond)) for byte in range(256)]


def _number(value: int) -> bytes:
    """Return a number as LEB128."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _string(text: bytes) -> bytes:
    return _number(len(text)) + text


def _strings(texts: Sequence[bytes]) -> bytes:
    """Return ascending texts, each as the length it shares with the one before and what it adds."""
    written = [_number(len(texts))]
    for before, text in pairwise([b"", *texts]):
        shared = next((i for i, (a, b) in enumerate(zip(before, text, strict=False)) if a != b), len(before))
        written += [_number(shared), _string(text[shared:])]
    return b"".join(written)


def _template(parts: Sequence[_Part]) -> bytes:
    written = [_number(len(parts))]
    for kind, token_type, token_id in parts:
        written += [_number(kind), _number(token_type), *([_number(token_id)] if kind == _SPECIAL else [])]
    return b"".join(written)


def _characters(characters: Characters) -> bytes:
    rows = np.stack([characters.kinds, characters.flags, characters.ranks, characters.joins], axis=1).view(np.uint32)[
        :, 0
    ]
    starts = np.flatnonzero(np.diff(rows, prepend=~rows[0]))
    lengths = np.diff(starts, append=CODE_POINTS)
    classes, of = np.unique(rows[starts], return_inverse=True)
    written = [_number(len(classes)), classes.tobytes(), _number(len(starts))]
    written += [_number(n) + _number(c) for n, c in zip(lengths.tolist(), of.tolist(), strict=True)]
    mapped = sorted(characters.mapped.items())
    assert [c for c, _ in mapped] == np.flatnonzero(characters.kinds == Kind.MAPPED).tolist()
    written.append(_number(len(mapped)))
    for (before, _), (code, text) in pairwise([(0, ""), *mapped]):
        written += [_number(code - before), _number(len(text)), *(_number(ord(c)) for c in text)]
    return b"".join(written)
