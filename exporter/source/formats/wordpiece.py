"""Build BERT's tokenizer from its vocabulary alone, where the vocabulary shows how texts are normalized. Imports tokenizers."""

import re
import string
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ....errors import SourceError

_USUAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BESIDE = "put the tokenizer.json of the original model beside the file"


def wordpiece(
    path: Path,
    pieces: Sequence[str],
    special: dict[str, str],
    *,
    control: Sequence[str] | None = None,
    added: Sequence[str] = (),
    lowercase: bool | None = None,
    strip_accents: bool | None = None,
) -> Any:
    """Return the tokenizer of `pieces` in WordPiece's own writing (## before all but the first piece of a word), by their ids.

    `special` names BERT's tokens by their roles, those that differ from [CLS], [SEP], [UNK]; it is completed. `control` and `added` are
    tokens that are found in a text before it is cut; None where the file does not say which those are. `lowercase` and `strip_accents`
    say how a text is normalized; None where the file does not. SourceError where a piece has capitals or accents then, since a
    vocabulary does not say how such a model reads them, where one is there twice, or where no text would ever be cut into one.
    """
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

    found_whole = {*(control or ()), *added, *special.values()}
    cut = [p for p in pieces if p not in found_whole and not in_brackets(p)]
    unsaid = lowercase is None and strip_accents is None
    odd = next((p for p in cut if (lowercase is None and p != p.lower()) or (unsaid and _has_marks(p))), None)
    if odd is not None:
        what = "capitals" if odd != odd.lower() else "accents"
        raise SourceError(
            f"{path}: the token {odd!r} has {what}, and nothing here says how a text is normalized: {BESIDE}"
        )
    uncut = next((p for p in pieces if p not in found_whole and _is_never_cut(p)), None)
    if control is None and uncut is not None:
        raise SourceError(
            f"{path}: no text is cut into the token {uncut!r}, and nothing here says how it is found: {BESIDE}"
        )
    ids = {piece: index for index, piece in enumerate(pieces)}
    if len(ids) < len(pieces):
        twice = next(piece for index, piece in enumerate(pieces) if ids[piece] != index)
        raise SourceError(f"{path}: the token {twice!r} is there twice: {BESIDE}")
    usual = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    special |= {role: special.get(role, token) for role, token in usual.items()}
    lacking = next((token for token in special.values() if token not in ids), None)
    if lacking is not None:
        raise SourceError(f"{path}: its vocabulary has no {lacking}: {BESIDE}")
    first, last = special["cls_token"], special["sep_token"]
    tokenizer = Tokenizer(models.WordPiece(vocab=ids, unk_token=special["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase is not False, strip_accents=strip_accents)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=[(first, ids[first]), (last, ids[last])],
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control or ()])
    tokenizer.add_tokens([AddedToken(token, normalized=True) for token in added])
    return tokenizer


def vocabulary_lines(path: Path, errors: str = "strict") -> list[str]:
    """Return a token for each line of a file. Tokens may hold what Unicode takes for the end of one.

    `errors` says what becomes of bytes that are no UTF-8, as of `bytes.decode`.
    """
    return [
        line.removesuffix("\r") for line in path.read_bytes().decode("utf-8", errors).removesuffix("\n").split("\n")
    ]


def in_brackets(piece: str) -> bool:
    """Return whether a piece is written as BERT's special tokens are."""
    return piece.startswith("[") and piece.endswith("]")


def _has_marks(piece: str) -> bool:
    """Return whether a piece has what BERT's normalizer takes away where it strips accents."""
    return any(unicodedata.category(c) == "Mn" for c in unicodedata.normalize("NFD", piece))


def _is_never_cut(piece: str) -> bool:
    """Return whether BERT's tokenizer, which cuts at each punctuation mark, never gives a piece; places kept free are known."""
    if piece in _USUAL or re.fullmatch(r"\[unused\d+\]", piece):
        return False
    word = piece.removeprefix("##")
    return len(word) > 1 and any(c in string.punctuation or unicodedata.category(c).startswith("P") for c in word)
