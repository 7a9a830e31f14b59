"""A bundle opens anywhere: without torch, with plain ONNX Runtime, and its answers are those of the source."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import transformers

import headway
from headway.errors import SourceError, UsageError
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe

from tests.support import models
from tests.support.deploy_time import BLOCKED

TEXTS = [
    "the model runs",
    "a large language model with small heads and layers of bread",
    "rain",
    "with time the price of text",
]


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
            answers = bundle.answers([("the price", t) for t in TEXTS])
            assert all(
                f["answer"] == t[f["start"] : f["end"]] and f["answer"] for f, t in zip(answers, TEXTS, strict=True)
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
