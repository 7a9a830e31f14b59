"""Text becomes the ids, types and masks that the source's tokenizer gives."""

import json
import random
import threading
import unicodedata
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, processors

import headway
from headway.errors import HeadwayWarning, SourceError, UsageError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.tokenizer import load_tokenizer, save_tokenizer
from headway.manifest import TokenizerInfo
from headway.text import TextEncoder, checked_pairs, checked_singles

from tests.support import models


@cache
def mixed_unicode(count: int) -> list[str]:
    """Lines of many scripts, full width, combining marks, emoji, right-to-left, controls and odd spaces."""
    rng = random.Random(0)
    ranges = [
        (0x20, 0x7F),
        (0xA0, 0x24F),
        (0x300, 0x370),
        (0x370, 0x530),
        (0x590, 0x700),
        (0x900, 0xE80),
        (0x1100, 0x1200),
        (0x2000, 0x2070),
        (0x3040, 0x3100),
        (0x4E00, 0x9FA5),
        (0xAC00, 0xD7A4),
        (0xFF01, 0xFF5F),
        (0x1F300, 0x1F650),
        (0x0, 0x20),
        (0x1D400, 0x1D800),
    ]
    lines = []
    for i in range(count):
        parts = []
        for _ in range(rng.randint(1, 12)):
            if rng.random() < 0.4:
                parts.append(rng.choice(models.WORDS))
            else:
                low, high = rng.choice(ranges)
                word = "".join(chr(rng.randrange(low, high)) for _ in range(rng.randint(1, 6)))
                parts.append("".join(c for c in word if unicodedata.category(c) not in ("Cs", "Cn")))
        lines.append((" " if i % 3 else "").join(parts))
    return lines


TOKENIZERS = ("bert", "roberta", "xlm-roberta", "deberta-v2")


@pytest.mark.parametrize(
    ("family", "count"),
    [
        *((family, 1_000) for family in TOKENIZERS),
        *(pytest.param(family, 10_000, marks=pytest.mark.slow) for family in TOKENIZERS),
    ],
)
def test_ids_are_the_source_tokenizer_s(family: str, count: int, tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "source", family)
    bundle = headway.Bundle.open(export(Recipe(source=str(source)), tmp_path / "out").path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    lines = mixed_unicode(count)
    ours = [e.ids for e in bundle.encoder.encode(lines)]
    theirs = tokenizer(lines, truncation=True, max_length=bundle.manifest.tokenizer.max_length)["input_ids"]  # type: ignore[union-attr]
    assert ours == theirs


def test_types_of_a_pair_are_the_source_tokenizer_s(tmp_path: Path) -> None:
    """A tokenizer that names no token types gives none: its model takes zeros, for both texts of a pair."""
    source = models.make_model(tmp_path / "source", "bert", "question-answering")
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(source).eval()
    pairs = [("the price", "of bread"), ("a model", "runs with time")]
    config = json.loads((source / "tokenizer_config.json").read_text())
    for names in (["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]):
        (source / "tokenizer_config.json").write_text(json.dumps(config | {"model_input_names": names}))
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        bundle = headway.Bundle.open(export(Recipe(source=str(source)), tmp_path / f"out-{len(names)}").path)
        outputs = bundle(pairs)
        for i, pair in enumerate(pairs):
            with torch.no_grad():
                expected = model(**tokenizer(*pair, return_tensors="pt"))
            length = expected.start_logits.shape[-1]
            np.testing.assert_allclose(outputs["start_logits"][i, :length], expected.start_logits[0].numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "processor",
    [
        processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1)),
        processors.Sequence([processors.ByteLevel(), processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))]),
    ],
)
def test_types_are_left_out_of_every_post_processor(processor: processors.PostProcessor, tmp_path: Path) -> None:
    models.make_tokenizer(tmp_path / "source")
    tokenizer = load_tokenizer(tmp_path / "source")
    tokenizer.backend_tokenizer.post_processor = processor
    (tmp_path / "out").mkdir()
    info = save_tokenizer(tokenizer, 64, tmp_path / "out")
    (ours,) = TextEncoder(tmp_path / "out" / info.file, info).encode([("the model", "runs")])
    theirs = tokenizer.backend_tokenizer.encode("the model", "runs")
    assert 1 in theirs.type_ids
    assert (ours.ids, ours.sequence_ids, ours.type_ids) == (theirs.ids, theirs.sequence_ids, [0] * len(theirs.ids))


@pytest.mark.parametrize("setting", [{"truncation_side": "left"}, {"split_special_tokens": True}])
def test_tokenizer_settings_that_a_bundle_does_not_follow_are_refused(setting: dict, tmp_path: Path) -> None:
    models.make_tokenizer(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | setting))
    with pytest.raises(SourceError, match=next(iter(setting))):
        save_tokenizer(load_tokenizer(tmp_path), 64, tmp_path)


@pytest.fixture
def encoder(tmp_path: Path) -> TextEncoder:
    models.make_tokenizer(tmp_path / "source")
    (tmp_path / "out").mkdir()
    info = save_tokenizer(load_tokenizer(tmp_path / "source"), 64, tmp_path / "out")
    return TextEncoder(tmp_path / "out" / info.file, info)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "text 1 is of type NoneType"),
        (b"rain", "text 1 is of type bytes: decode it"),
        (7, "text 1 is of type int"),
        (("a",), r"text 1 is \(str\); a pair is two strings"),
        (("a", None), r"text 1 is \(str, NoneType\)"),
        ("rain \ud800", "text 1 has half of a surrogate pair at character 5"),
        (("a", "\udfff"), "text 1 has half of a surrogate pair at character 0"),
    ],
)
def test_what_is_no_text_is_named(text: object, said: str, encoder: TextEncoder) -> None:
    with pytest.raises(UsageError, match=said):
        encoder(["the model", text])  # type: ignore[list-item]


def test_pairs_and_single_texts_are_told_apart() -> None:
    assert checked_pairs([("who", "Ada"), ["where", "here"]]) == [("who", "Ada"), ("where", "here")]  # type: ignore[list-item]
    assert checked_singles(["rain", "schön"]) == ["rain", "schön"]
    with pytest.raises(UsageError, match="text 1 is a single text"):
        checked_pairs([("who", "Ada"), "rain"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="text 1 is a pair"):
        checked_singles(["rain", ("who", "Ada")])  # type: ignore[list-item]


@pytest.mark.parametrize("texts", ["rain", b"rain", None])
def test_one_text_is_no_list(texts: str | bytes | None, encoder: TextEncoder) -> None:
    with pytest.raises(UsageError, match="a list of texts"):
        encoder(texts)  # type: ignore[arg-type]


def test_no_texts_are_an_empty_batch(encoder: TextEncoder) -> None:
    assert {name: array.shape for name, array in encoder([]).items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "token_type_ids"), (0, 0)
    )


def test_threads_with_different_limits_do_not_meet(encoder: TextEncoder) -> None:
    """The library keeps the limit in the tokenizer: a thread that set one would cut another's texts."""
    text = " ".join(["rain"] * 100)
    wrong: list[tuple[int, int]] = []

    def encode(limit: int | None) -> None:
        for _ in range(300):
            lengths = {len(e.ids) for e in encoder.encode([text, text], limit)}
            if lengths != {limit or 64}:
                wrong.append((limit or 64, max(lengths)))

    threads = [threading.Thread(target=encode, args=(limit,)) for limit in (None, 8, 17, None)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_tokenizer_file_carries_the_limits(tmp_path: Path) -> None:
    """Plain `tokenizers` gives the bundle's own batches: cut and padded alike, for single texts and pairs."""
    source = models.make_model(tmp_path / "source", "bert")
    bundle = headway.Bundle.open(export(Recipe(source=str(source)), tmp_path / "out").path)
    plain = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    long = " ".join(["the price of trains"] * 40)
    for texts in (["rain", "the model runs", long], [("rain", long), (long, "bread"), ("a", "b")]):
        encodings = plain.encode_batch(texts)
        wanted = bundle.encoder(texts)
        assert wanted["input_ids"].shape[1] == 64
        for name, field in (("input_ids", "ids"), ("attention_mask", "attention_mask"), ("token_type_ids", "type_ids")):
            np.testing.assert_array_equal([getattr(e, field) for e in encodings], wanted[name])


def test_an_added_token_without_an_embedding_is_refused(tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "source", "bert", vocab_size=107)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens([f"<extra{i}>" for i in range(107 - len(tokenizer))])
    tokenizer.save_pretrained(source)
    export(Recipe(source=str(source)), tmp_path / "out")
    tokenizer.add_tokens(["<image>"])
    tokenizer.save_pretrained(source)
    with pytest.raises(SourceError, match=r"'<image>' has the id 107.*vocab_size = 107"):
        export(Recipe(source=str(source)), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_a_text_in_a_script_that_was_trimmed_is_told_of_once(tmp_path: Path) -> None:
    models.make_tokenizer(tmp_path)
    info = TokenizerInfo("tokenizer.json", 16, 0, 0, "[PAD]", scripts_gone=["cyrillic", "greek"])
    encoder = TextEncoder(tmp_path / "tokenizer.json", info)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode(["the price", "да and more latin letters"])
    with pytest.warns(
        HeadwayWarning, match="text 1 is mostly outside .* of cyrillic, greek it holds single characters"
    ):
        encoder.encode(["the price", ("the price", "это слово")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode(["это слово"])
