"""A bundle opens anywhere: without torch, with the source's own tokenization, with plain ONNX Runtime."""

import json
import random
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from tokenizers import processors

import headway
from headway.errors import SourceError, UsageError
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe, read_recipe
from headway.exporter.source.tokenizer import load_tokenizer, save_tokenizer
from headway.text import TextEncoder

import models

TEXTS = [
    "the model runs",
    "a large language model with small heads and layers of bread",
    "rain",
    "with time the price of text",
]


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


def test_texts_in_arrays_out(bert: Path, bert_bundle: Exported) -> None:
    bundle = headway.Bundle.open(bert_bundle.path, threads=1)
    model, tokenizer = (
        transformers.AutoModel.from_pretrained(bert).eval(),
        transformers.AutoTokenizer.from_pretrained(bert),
    )
    outputs = bundle(TEXTS, batch_size=2)["last_hidden_state"]
    assert outputs.shape[0] == len(TEXTS)
    for i, text in enumerate(TEXTS):
        with torch.no_grad():
            expected = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()
        np.testing.assert_allclose(outputs[i, : len(expected)], expected, atol=1e-4)
        assert not outputs[i, len(expected) :].any()
    with pytest.raises(UsageError, match="list"):
        bundle("one string")


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
@pytest.mark.parametrize("dense", [False, True])
def test_sentence_embeddings(pooling: str, dense: bool, tmp_path: Path) -> None:
    """Against pooling written out here in float64, from the definitions in the sentence-transformers documentation."""
    from safetensors.numpy import load_file

    source = models.make_sentence_model(tmp_path / "source", pooling, dense=dense)
    bundle = headway.Bundle.open(export(Recipe(source=str(source)), tmp_path / "out").path)
    outputs = bundle(TEXTS)
    mask = bundle.encoder(TEXTS)["attention_mask"].astype(np.float64)[:, :, None]
    states = outputs["last_hidden_state"].astype(np.float64)
    lengths = mask.sum(1)
    ranks = np.arange(1, states.shape[1] + 1)[None, :, None] * mask
    pooled = {
        "mean": (states * mask).sum(1) / lengths,
        "cls": states[:, 0],
        "max": np.where(mask > 0, states, -np.inf).max(1),
        "mean_sqrt_len_tokens": (states * mask).sum(1) / np.sqrt(lengths),
        "weightedmean": (states * ranks).sum(1) / ranks.sum(1),
        "lasttoken": states[np.arange(len(TEXTS)), lengths[:, 0].astype(int) - 1],
    }[pooling]
    if dense:
        weights = load_file(source / "2_Dense" / "model.safetensors")
        pooled = np.tanh(pooled @ weights["linear.weight"].T.astype(np.float64) + weights["linear.bias"])
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(outputs["sentence_embedding"], pooled, atol=1e-5)


def test_labels_entities_and_answers(tmp_path: Path) -> None:
    for task in ("text-classification", "token-classification", "question-answering"):
        source = models.make_model(tmp_path / task, "bert", task)
        bundle = headway.Bundle.open(export(Recipe(source=str(source)), tmp_path / f"{task}-out").path)
        if task == "text-classification":
            (label, score), *_ = bundle.labels(TEXTS)
            logits = bundle(TEXTS)["logits"][0]
            assert label == f"LABEL_{logits.argmax()}"
            assert score == pytest.approx(float(np.exp(logits.max()) / np.exp(logits).sum()), rel=1e-5)
            with pytest.raises(UsageError, match="question-answering"):
                bundle.answers([("a", "b")])
        elif task == "token-classification":
            for text, spans in zip(TEXTS, bundle.entities(TEXTS), strict=True):
                assert all(
                    span["text"] == text[span["start"] : span["end"]] and 0 < span["score"] <= 1 for span in spans
                )
                # Neither label of this model means "no entity": the spans cover every character that is no space.
                assert "".join("".join(span["text"].split()) for span in spans) == "".join(text.split())
        else:
            found = bundle.answers([("the price", t) for t in TEXTS])
            assert all(
                f["answer"] == t[f["start"] : f["end"]] and f["answer"] for f, t in zip(found, TEXTS, strict=True)
            )


def test_choices(tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "source", "bert", "multiple-choice")
    bundle = headway.Bundle.open(export(Recipe(source=str(source)), tmp_path / "out").path)
    model = transformers.AutoModelForMultipleChoice.from_pretrained(source).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    for question, options in [
        ("the price", ["of bread", "of a train", "of rain and time"]),
        ("a model", ["runs", "text"]),
    ]:
        tokens = tokenizer([question] * len(options), options, padding=True, return_tensors="pt")
        with torch.no_grad():
            logits = model(**{k: v[None] for k, v in tokens.items()}).logits[0]
        ((best, probability),) = bundle.choices([(question, options)])
        assert best == int(logits.argmax())
        assert probability == pytest.approx(float(logits.softmax(0)[best]), abs=1e-4)
    with pytest.raises(UsageError, match="choices"):
        bundle(["a text"])


def test_plain_onnxruntime_opens_it(bert_bundle: Exported) -> None:
    session = onnxruntime.InferenceSession(str(bert_bundle.path / "model.onnx"), providers=["CPUExecutionProvider"])
    ids = np.arange(5, 21).reshape(2, 8)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    ours = headway.Bundle.open(bert_bundle.path).runner.run(feeds)
    np.testing.assert_allclose(session.run(None, feeds)[0], ours["last_hidden_state"], atol=1e-5)


HEAVY = [
    "torch",
    "transformers",
    "optimum",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "pydantic",
    "yaml",
    "matplotlib",
    "safetensors",
]

BLOCKED = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY}:
            raise ModuleNotFoundError(f"{{name}} is not for deploy time", name=name)
sys.meta_path.insert(0, Refuse())
"""


def test_deploy_time_needs_neither_torch_nor_transformers(sentence_bundle: Exported) -> None:
    script = (
        BLOCKED
        + f"""
import headway
out = headway.Bundle.open({str(sentence_bundle.path)!r})(["a text", "the bread"])
assert out["sentence_embedding"].shape == (2, 32), out["sentence_embedding"].shape
import headway.exporter.cli
print(sorted(m for m in sys.modules if m in ("torch", "transformers", "onnx")))
"""
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_without_the_export_extra_the_extra_is_named(sentence_bundle: Exported) -> None:
    blocked = BLOCKED.replace("'pydantic', ", "")  # typer itself may bring it
    script = (
        blocked + "import headway.exporter.cli.app as c; sys.argv = ['headway', 'export', 'x', '--out', 'y']; c.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 4
    assert "headway[export]" in done.stderr


def test_the_same_recipe_gives_the_same_bytes(bert_bundle: Exported, tmp_path: Path) -> None:
    again = export(read_recipe(bert_bundle.path / "recipe.yaml"), tmp_path / "again")
    timed = ("headway.json", "README.md")  # these would hold timings, had the bundle been measured
    first, second = (
        {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name not in timed}
        for root in (bert_bundle.path, again.path)
    )
    assert first == second
    one, two = (json.loads((root / "headway.json").read_text()) for root in (bert_bundle.path, again.path))
    assert one["files"]["model.onnx"] == two["files"]["model.onnx"]


def test_damaged_bundles_are_named(bert_bundle: Exported, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bert_bundle.path, tmp_path / "copy"))
    (copy / "model.onnx.data").write_bytes(b"short")
    with pytest.raises(SourceError, match=r"model\.onnx\.data"):
        headway.Bundle.open(copy)
    manifest = json.loads((copy / "headway.json").read_text())
    (copy / "headway.json").write_text(json.dumps(manifest | {"schema_version": 99}))
    with pytest.raises(SourceError, match="99"):
        headway.Bundle.open(copy)
    (copy / "headway.json").unlink()
    with pytest.raises(SourceError, match="not a Headway bundle"):
        headway.Bundle.open(copy)
