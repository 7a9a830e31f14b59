"""Build the tokenizer of a GGUF file from its metadata, where its kind is one that can be built exactly. Imports transformers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ....errors import SourceError
from .gguf import Gguf
from .wordpiece import BESIDE, in_brackets, wordpiece

_WORD = "\u2581"
"""What llama.cpp puts before the first piece of a word, where WordPiece puts ## before the others."""

_PREFIX = "tokenizer.ggml."
_SPECIAL = {"cls": "cls_token", "seperator": "sep_token", "padding": "pad_token", "mask": "mask_token"}
_SPECIAL |= {"unknown": "unk_token", "bos": "bos_token", "eos": "eos_token"}
_USUAL, _UNKNOWN, _CONTROL, _USER = 1, 2, 3, 4
"""Kinds of tokens as ggml numbers them: those found in a text as they are, before it is cut, are the last two."""

_BYTE_PAIRS = ("gpt-2", "smollm")

_LOWERCASE, _STRIP_ACCENTS = "normalizer.lowercase", "normalizer.strip_accents"
_KNOWN = {"model", "pre", "tokens", "token_type", "merges", "add_bos_token", "add_eos_token", "add_space_prefix"}
_KNOWN |= {_LOWERCASE, _STRIP_ACCENTS}
_NOT_NEEDED = {"scores", "token_type_count", "add_sep_token", "remove_extra_whitespaces", "suppress_tokens"}
"""Keys that change nothing about the ids of a text here: of other kinds of tokenizers, of pairs, of generating text."""


def tokenizer_writer(gguf: Gguf, longest: int) -> Callable[[Path], None]:
    """Return what writes the tokenizer's files to a directory, for texts of at most `longest` tokens.

    It raises SourceError, with the reason, for a kind that is not built from metadata.
    """

    def write(directory: Path) -> None:
        from transformers import PreTrainedTokenizerFast

        values = {k.removeprefix(_PREFIX): v for k, v in gguf.metadata.items() if k.startswith(_PREFIX)}
        tokens = values.get("tokens")
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise SourceError(f"{gguf.path}: its metadata has no {_PREFIX}tokens: {BESIDE}")
        special = _special_tokens(gguf, values, tokens)
        build = {"bert": _wordpiece, "gpt2": _byte_pairs}.get(str(values.get("model")))
        if build is None:
            raise SourceError(
                f"{gguf.path}: a tokenizer of the kind {values.get('model')} is not built from metadata (bert and gpt2 are): {BESIDE}"
            )
        _check_known(gguf, values)
        tokenizer = build(gguf, values, tokens, special)
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=longest, **special)
        fast.save_pretrained(directory)

    return write


def token_check(gguf: Gguf, rows: int) -> Callable[[int, str], bool]:
    """Return what tells whether a tokenizer's piece may have an id, by the metadata: any may where that has no usual token.

    SourceError where there are more tokens than the `rows` of the embedding.
    """
    values = {k: gguf.metadata.get(f"{_PREFIX}{k}") for k in ("tokens", "token_type")}
    tokens = _list(gguf, values, "tokens")
    if len(tokens) > rows:
        raise SourceError(f"{gguf.path}: {len(tokens):,} {_PREFIX}tokens for {rows:,} embeddings: download it again")
    kinds = _kinds(gguf, values, tokens)

    def has_token(index: int, piece: str) -> bool:
        unknown = not 0 <= index < len(tokens) or kinds[index] != _USUAL
        return unknown or tokens[index] in (piece, f"{_WORD}{piece}", piece.removeprefix("##"))

    return has_token


def _check_known(gguf: Gguf, values: Mapping[str, Any]) -> None:
    """Refuse a key by which ids may differ from those of the tokenizers built here. Roles of tokens are names."""
    others = {k: v for k, v in values.items() if k not in _KNOWN | _NOT_NEEDED and not k.endswith("_token_id")}
    key = next((key for key, value in others.items() if value not in (False, [], "")), None)
    if key is not None:
        raise SourceError(f"{gguf.path}: {_PREFIX}{key} = {str(values[key])[:40]}, which is not followed: {BESIDE}")


def _special_tokens(gguf: Gguf, values: Mapping[str, Any], tokens: list[str]) -> dict[str, str]:
    special = {}
    for key, name in _SPECIAL.items():
        index = values.get(f"{key}_token_id")
        if index is None:
            continue
        if type(index) is not int or not 0 <= index < len(tokens):
            raise SourceError(
                f"{gguf.path}: {_PREFIX}{key}_token_id = {index!r} is none of {len(tokens)} tokens: {BESIDE}"
            )
        special[name] = tokens[index]
    return special


def _list(gguf: Gguf, values: Mapping[str, Any], key: str) -> list[Any]:
    """Return a list of the metadata; an empty one where it is not there."""
    value = values.get(key) or []
    if not isinstance(value, list):
        raise SourceError(f"{gguf.path}: {_PREFIX}{key} = {str(value)[:40]}: a list is expected: {BESIDE}")
    return value


def _kinds(gguf: Gguf, values: Mapping[str, Any], tokens: list[str]) -> list[int]:
    """Return the kind of each token as ggml numbers them, 1 where the metadata says nothing."""
    kinds = _list(gguf, values, "token_type") or [_USUAL] * len(tokens)
    if len(kinds) != len(tokens):
        raise SourceError(f"{gguf.path}: {len(kinds)} kinds for {len(tokens)} tokens: download it again")
    wrong = next((kind for kind in kinds if type(kind) is not int or not 0 <= kind <= 6), None)
    if wrong is not None:
        raise SourceError(
            f"{gguf.path}: {_PREFIX}token_type has {str(wrong)[:40]}, and 0 to 6 are expected: download it again"
        )
    return kinds


def _flag(gguf: Gguf, values: Mapping[str, Any], key: str) -> bool:
    value = values.get(key, False)
    if type(value) is not bool:
        raise SourceError(f"{gguf.path}: {_PREFIX}{key} = {str(value)[:40]}: true or false is expected: {BESIDE}")
    return value


def _around(gguf: Gguf, special: Mapping[str, str], name: str, key: str) -> str:
    """Return a token that stands before or after each text. Templates know no token with blanks, colons and dollars."""
    token = special.get(name, "")
    if not token or any(c in ":$" or c.isspace() for c in token):
        raise SourceError(f"{gguf.path}: {_PREFIX}{key} asks for a {name}, which is {token!r}: {BESIDE}")
    return token


def _wordpiece(gguf: Gguf, values: Mapping[str, Any], tokens: list[str], special: dict[str, str]) -> Any:
    """Return BERT's tokenizer, from pieces that llama.cpp wrote with a mark before the first one of a word.

    Control tokens have no mark; earlier converters left it out of all tokens in brackets, and of no others.
    """
    kinds = _kinds(gguf, values, tokens)
    pieces = []
    for token, kind in zip(tokens, kinds, strict=True):
        first = token.startswith(_WORD) and token != _WORD  # the mark alone is a piece inside a word
        whole = not first and (kind in (_UNKNOWN, _CONTROL) or in_brackets(token))
        pieces.append(token if whole else token[1:] if first else f"##{token}")
    for role, other in (("cls_token", "bos_token"), ("sep_token", "eos_token")):
        if other in special:
            special.setdefault(role, special[other])
    added = {kind: [p for p, k in zip(pieces, kinds, strict=True) if k == kind] for kind in (_CONTROL, _USER)}
    said = [_flag(gguf, values, key) if key in values else None for key in (_LOWERCASE, _STRIP_ACCENTS)]
    return wordpiece(
        gguf.path,
        pieces,
        special,
        control=added[_CONTROL],
        added=added[_USER],
        lowercase=said[0],
        strip_accents=said[1],
    )


def _byte_pairs(gguf: Gguf, values: Mapping[str, Any], tokens: list[str], special: dict[str, str]) -> Any:
    """Return a byte-level BPE tokenizer, for the ways of cutting text into words that are known exactly."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    way = values.get("pre")
    if way not in _BYTE_PAIRS:
        raise SourceError(
            f"{gguf.path}: text is cut into words as {way!r} does, which is not built from metadata: {BESIDE}"
        )
    normalized = next((key for key in (_LOWERCASE, _STRIP_ACCENTS) if _flag(gguf, values, key)), None)
    if normalized is not None:
        raise SourceError(f"{gguf.path}: {_PREFIX}{normalized} of byte pairs is not followed: {BESIDE}")
    merges = [tuple(str(merge).split(" ")) for merge in _list(gguf, values, "merges")]
    if not merges or any(len(merge) != 2 for merge in merges):
        raise SourceError(f"{gguf.path}: {_PREFIX}merges: pairs of pieces are expected: {BESIDE}")
    if len(set(tokens)) < len(tokens):
        raise SourceError(f"{gguf.path}: {_PREFIX}tokens: one is there twice: {BESIDE}")
    try:
        tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))  # type: ignore[arg-type]
    except Exception as error:  # a merge of pieces that are no tokens
        raise SourceError(f"{gguf.path}: {_PREFIX}merges do not fit its tokens ({error}): {BESIDE}") from error
    words = pre_tokenizers.ByteLevel(add_prefix_space=_flag(gguf, values, "add_space_prefix"))
    digits = [pre_tokenizers.Digits(individual_digits=True)] if way == "smollm" else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, words]) if digits else words
    kinds = _kinds(gguf, values, tokens)
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind in (_UNKNOWN, _CONTROL, _USER)]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    around = [
        _around(gguf, special, name, key) if _flag(gguf, values, key) else ""
        for name, key in (("bos_token", "add_bos_token"), ("eos_token", "add_eos_token"))
    ]
    if any(around):
        template = f"{around[0]} $A {around[1]}".strip()
        ids = [(token, tokens.index(token)) for token in dict.fromkeys(around) if token]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return tokenizer
