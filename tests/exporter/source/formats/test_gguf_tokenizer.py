"""Tokenizers are built from metadata where it says all that they need, and refused with the reason elsewhere."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from headway.errors import SourceError
from headway.exporter.source.formats.gguf import Gguf
from headway.exporter.source.formats.gguf_tokenizer import token_check, tokenizer_writer

BYTES = {
    "model": "gpt2",
    "pre": "smollm",
    "tokens": ["<end>", "a", "b", "1", "2", "Ġ", "ab", "Ġab"],
    "token_type": [3, 1, 1, 1, 1, 1, 1, 1],
    "merges": ["a b", "Ġ ab"],
    "bos_token_id": 0,
    "padding_token_id": 0,
}
WORDS = {"model": "bert", "tokens": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u2581rain", "s"], "padding_token_id": 0}


def built(values: dict[str, Any], tmp_path: Path) -> Tokenizer:
    gguf = Gguf(tmp_path / "a.gguf", {f"tokenizer.ggml.{k}": v for k, v in values.items()}, {}, {})
    tokenizer_writer(gguf, 16)(tmp_path)
    return Tokenizer.from_file(str(tmp_path / "tokenizer.json"))


def test_byte_pairs(tmp_path: Path) -> None:
    assert built(BYTES, tmp_path).encode("ab ab12<end>").tokens == ["ab", "Ġab", "1", "2", "<end>"]
    assert built(BYTES | {"add_bos_token": True}, tmp_path).encode("ab").tokens == ["<end>", "ab"]


def test_pieces_of_words(tmp_path: Path) -> None:
    assert built(WORDS, tmp_path).encode("Rains rain snow").tokens == ["[CLS]", "rain", "##s", "rain", "[UNK]", "[SEP]"]


def test_added_tokens_of_words(tmp_path: Path) -> None:
    """Of kind 3 as they are, of kind 4 with a mark before them, of kind 5 not found at all; a mark alone is a piece inside a word."""
    more = ["[CITE]", "\u2581<ent>", "\u2581Covid", "\u2581[PAD10]", "\u2581"]
    values = WORDS | {"tokens": [*WORDS["tokens"], *more], "token_type": [3, 3, 3, 3, 1, 1, 3, 3, 4, 5, 1]}
    tokenizer = built(values, tmp_path)
    assert tokenizer.encode("rain [CITE] <ent>covid").ids[1:-1] == [4, 6, 7, 8]
    assert tokenizer.encode("[PAD10]").tokens[1:-1] == ["[UNK]"] * 3
    assert tokenizer.id_to_token(10) == "##\u2581" and tokenizer.id_to_token(9) == "[PAD10]"


def test_words_are_normalized_as_metadata_says(tmp_path: Path) -> None:
    cased = WORDS | {"tokens": [*WORDS["tokens"], "\u2581Rain", "\u2581é"], "normalizer.lowercase": False}
    assert built(cased, tmp_path).encode("Rain rain é").tokens[1:-1] == ["Rain", "rain", "é"]
    uncased = cased | {"normalizer.lowercase": True, "normalizer.strip_accents": False}
    assert built(uncased, tmp_path).encode("Rain É").tokens[1:-1] == ["rain", "é"]


def test_keys_that_change_no_ids_are_left_alone(tmp_path: Path) -> None:
    others = {"scores": [0.5], "add_sep_token": True, "fim_pre_token_id": 3, "token_type_count": 2, "of_another": False}
    assert built(BYTES | others, tmp_path).encode("ab").tokens == ["ab"]


def test_usual_tokens_are_compared_with_a_tokenizer_beside_the_file(tmp_path: Path) -> None:
    metadata = {"tokenizer.ggml.tokens": ["<s>", "\u2581rain", "s", "Ġa"], "tokenizer.ggml.token_type": [3, 1, 1, 1]}
    has_token = token_check(Gguf(tmp_path / "a.gguf", metadata, {}, {}), 4)
    for index, piece in ((0, "[CLS]"), (1, "rain"), (1, "\u2581rain"), (2, "##s"), (2, "s"), (3, "Ġa"), (9, "x")):
        assert has_token(index, piece)
    assert not has_token(1, "snow") and not has_token(3, "a")
    assert token_check(Gguf(tmp_path / "a.gguf", {}, {}, {}), 4)(0, "any")
    with pytest.raises(SourceError, match=r"4 tokenizer\.ggml\.tokens for 3 embeddings"):
        token_check(Gguf(tmp_path / "a.gguf", metadata, {}, {}), 3)


def test_tokens_kept_free_are_not_found_in_texts(tmp_path: Path) -> None:
    values = BYTES | {"tokens": [*BYTES["tokens"], "ab1"], "token_type": [*BYTES["token_type"], 5]}
    assert built(values, tmp_path).encode("ab1").tokens == ["ab", "1"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"model": "bert"}, "no tokenizer.ggml.tokens"),
        (WORDS | {"model": "t5"}, "of the kind t5 is not built"),
        (WORDS | {"tokens": [*WORDS["tokens"], "\u2581Rain"]}, "'Rain' has capitals"),
        (WORDS | {"tokens": [*WORDS["tokens"], "s"]}, "'##s' is there twice"),
        (WORDS | {"tokens": WORDS["tokens"][:2]}, r"has no \[CLS\]"),
        (WORDS | {"token_type": [1]}, "1 kinds for 6 tokens"),
        (WORDS | {"mask_token_id": 99}, "mask_token_id = 99 is none of 6"),
        (WORDS | {"token_type": [1, 1, 129, 1, 1, 1]}, "token_type has 129, and 0 to 6"),
        (BYTES | {"token_type": [1]}, f"1 kinds for {len(BYTES['tokens'])} tokens"),
        (BYTES | {"merges": 5}, "merges = 5: a list is expected"),
        (BYTES | {"add_bos_token": True, "bos_token_id": None}, "asks for a bos_token, which is ''"),
        (BYTES | {"add_bos_token": True, "tokens": ["$A", *BYTES["tokens"][1:]]}, "which is '\\$A'"),
        (BYTES | {"tokens": [*BYTES["tokens"], "a"], "token_type": []}, "one is there twice"),
        (BYTES | {"pre": "deepseek-v9"}, "as 'deepseek-v9' does"),
        (BYTES | {"merges": ["abc"]}, "pairs of pieces"),
        (BYTES | {"merges": ["x y"]}, "merges do not fit"),
        (BYTES | {"add_bos_token": "no"}, "add_bos_token = no: true or false"),
        (BYTES | {"normalizer.lowercase": True}, r"normalizer\.lowercase of byte pairs is not followed"),
        (BYTES | {"normalizer.nfc": True}, r"normalizer\.nfc = True, which is not followed"),
        (WORDS | {"precompiled_charsmap": [1, 2]}, r"precompiled_charsmap = \[1, 2\], which is not followed"),
        (WORDS | {"normalizer.strip_accents": "no"}, "strip_accents = no: true or false"),
        (BYTES | {"bos_token_id": True}, "bos_token_id = True is none of"),
    ],
)
def test_what_cannot_be_built_is_refused(values: dict, says: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=says):
        built(values, tmp_path)
