"""Build BERT's tokenizer from its vocabulary alone, where the vocabulary shows how texts are normalized. Imports tokenizers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ....errors import SourceError

BESIDE = "put the tokenizer.json of the original model beside the file"


def wordpiece(path: Path, pieces: Sequence[str], special: dict[str, str]) -> Any:
    """Return the tokenizer of `pieces` in WordPiece's own writing (## before all but the first piece of a word), by their ids.

    `special` names BERT's tokens by their roles, those that differ from [CLS], [SEP], [UNK]; it is completed. SourceError where a
    piece has capitals, since a vocabulary does not say how such a model reads them, or where one is there twice.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    cased = next((p for p in pieces if p != p.lower() and not (p.startswith("[") and p.endswith("]"))), None)
    if cased is not None:
        raise SourceError(
            f"{path}: the token {cased!r} has capitals, and nothing here says how a text is normalized: {BESIDE}"
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
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=[(first, ids[first]), (last, ids[last])],
    )
    return tokenizer
