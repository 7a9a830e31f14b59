"""Text becomes the ids, types and masks that the source's tokenizer gives."""

import json
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import processors

import headway
from headway.errors import SourceError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.tokenizer import load_tokenizer, save_tokenizer
from headway.text import TextEncoder

from tests.support import models


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


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "deberta-v2"])
def test_ids_are_the_source_tokenizer_s_on_ten_thousand_lines(family: str, tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "source", family)
    bundle = headway.Bundle.open(export(Recipe(source=str(source)), tmp_path / "out").path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    lines = mixed_unicode(10_000)
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
