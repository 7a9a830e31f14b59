"""A bundle opens anywhere: without torch, with plain ONNX Runtime, and its answers are those of the source."""

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers

import headway
from headway.errors import HeadwayWarning, SourceError, UsageError
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe

from tests.support import models
from tests.support.deploy_time import BLOCKED
from tests.support.order import check_order

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


POOLINGS = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


@pytest.mark.parametrize(
    ("pooling", "dense"),
    [
        ("mean", True),
        ("cls", False),
        ("lasttoken", False),
        *(pytest.param(pooling, True, marks=pytest.mark.slow) for pooling in POOLINGS if pooling != "mean"),
        *(pytest.param(p, False, marks=pytest.mark.slow) for p in POOLINGS if p not in ("cls", "lasttoken")),
    ],
)
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


LONG = " ".join(["the price of large trains"] * 30)


def test_a_call_for_another_task_is_refused(bert_bundle: Exported) -> None:
    bundle = headway.Bundle.open(bert_bundle.path)
    for call in (bundle.labels, bundle.scores, bundle.entities, bundle.answers, bundle.fill, bundle.choices):
        with pytest.raises(UsageError, match="a feature-extraction bundle"):
            call([])  # type: ignore[operator]


SCORED: list[tuple[int, str | None]] = [(3, "multi_label_classification"), (2, "regression"), (1, None)]


@pytest.mark.parametrize(("count", "problem_type"), SCORED)
def test_labels_and_scores_are_those_of_the_pipeline(count: int, problem_type: str | None, tmp_path: Path) -> None:
    """Saturated and opposite logits among them: a softmax of one is 1 whatever the text."""
    source = models.make_model(
        tmp_path / "source",
        "bert",
        "text-classification",
        num_labels=count,
        problem_type=problem_type,
        num_hidden_layers=1,
        initializer_range=0.5,
    )
    bundle = headway.Bundle.open(export(Recipe(source=str(source)), tmp_path / "out").path)
    pipeline = transformers.pipeline("text-classification", str(source), device="cpu")
    theirs = [pipeline(text, top_k=None) for text in TEXTS]
    for ours, wanted in zip(bundle.scores(TEXTS), theirs, strict=True):
        assert ours == pytest.approx({s["label"]: s["score"] for s in wanted}, abs=1e-4)
    for (label, score), wanted in zip(bundle.labels(TEXTS), theirs, strict=True):
        scores = {s["label"]: s["score"] for s in wanted}
        assert score == pytest.approx(scores[label], abs=1e-4)
        assert score == pytest.approx(max(scores.values()), abs=1e-4)
    sorted_scores = sorted(s["score"] for row in theirs for s in row)
    gap = int(np.argmax(np.diff(sorted_scores)))
    middle = (sorted_scores[gap] + sorted_scores[gap + 1]) / 2  # no score is near it
    above = [[s["label"] for s in row if s["score"] >= middle] for row in theirs]
    assert [[name for name, _ in row] for row in bundle.labels(TEXTS, threshold=middle)] == above
    assert bundle.labels([]) == bundle.scores([]) == bundle.labels([], threshold=0.5) == []


def test_labels_say_when_a_text_was_cut_and_warn_once(bert_classifier: Path, tmp_path: Path) -> None:
    bundle = headway.Bundle.open(export(Recipe(source=str(bert_classifier)), tmp_path / "out").path)
    with pytest.warns(HeadwayWarning, match="text 1 has more than 64 tokens"):
        labels = bundle.labels(["rain", LONG])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bundle.labels(["rain", LONG]) == labels
        assert [label.truncated for label in bundle.labels(TEXTS, max_length=5)] == [False, True, False, True]
    assert [label.truncated for label in labels] == [False, True]


def test_every_way_to_read_a_classifier_says_which_texts_were_cut(bert_classifier: Path, tmp_path: Path) -> None:
    path = export(Recipe(source=str(bert_classifier)), tmp_path / "out").path
    calls: list[Callable[[headway.Bundle], list[Any]]] = [
        lambda bundle: bundle.labels(["rain", LONG], threshold=0.0),
        lambda bundle: bundle.labels(["rain", LONG], threshold=2.0),  # none is left to say so
        lambda bundle: bundle.scores(["rain", LONG]),
    ]
    for call in calls:
        bundle = headway.Bundle.open(path)
        with pytest.warns(HeadwayWarning, match="text 1 has more than 64 tokens") as warned:
            assert [result.truncated for result in call(bundle)] == [False, True]
            call(bundle)
            bundle([LONG])
        assert [Path(w.filename).name for w in warned] == [Path(__file__).name]
    assert all(label.truncated for label in bundle.labels([LONG], threshold=0.0)[0])
    assert bundle(["rain", LONG]).truncated == [False, True]


def test_texts_are_cut_where_asked(bert_bundle: Exported) -> None:
    bundle = headway.Bundle.open(bert_bundle.path)
    cut = bundle(["the price of bread"], max_length=4)["last_hidden_state"]
    np.testing.assert_allclose(cut, bundle(["the price"])["last_hidden_state"], atol=1e-6)
    for limit in (0, 1, 65):
        with pytest.raises(UsageError, match=f"max_length is {limit}; give 2 to 64"):
            bundle(TEXTS, max_length=limit)


def test_no_texts_give_empty_arrays(bert_bundle: Exported, sentence_bundle: Exported) -> None:
    assert {n: a.shape for n, a in headway.Bundle.open(bert_bundle.path)([]).items()} == {
        "last_hidden_state": (0, 0, 32)
    }
    outputs = headway.Bundle.open(sentence_bundle.path)([])
    assert outputs["sentence_embedding"].shape == (0, 32)
    assert outputs["sentence_embedding"].dtype == np.float32


def reader(folder: Path) -> Path:
    """Write a model that finds the word bread, wherever it stands."""
    source = models.make_model(folder, "bert", "question-answering", num_hidden_layers=1)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(source)
    bread = transformers.AutoTokenizer.from_pretrained(source).convert_tokens_to_ids("bread")
    direction = torch.randn(32, generator=torch.Generator().manual_seed(0))
    direction -= direction.mean()
    with torch.no_grad():
        model.qa_outputs.weight.copy_(torch.stack([direction, direction]) * 3)
        model.bert.embeddings.word_embeddings.weight[bread] += direction * 8
    model.save_pretrained(source)
    return source


def test_answers_read_long_contexts_in_windows(tmp_path: Path) -> None:
    """Against every window as transformers' tokenizer makes them, run by the model itself."""
    source = reader(tmp_path / "source")
    bundle = headway.Bundle.open(export(Recipe(source=str(source)), tmp_path / "out").path)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(source).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    question, words = "the price of", ["the", "large", "train", "runs", "with", "time"] * 20
    contexts = [" ".join([*words[:at], "bread", *words[at:]]) for at in (0, 61, 120)]
    for context, answer in zip(contexts, bundle.answers([(question, c) for c in contexts]), strict=True):
        windows = tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=64,
            stride=29,  # half of the 58 tokens that the question leaves
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding=True,
            return_tensors="pt",
        )
        offsets = windows.pop("offset_mapping")
        windows.pop("overflow_to_sample_mapping")
        with torch.inference_mode():
            outputs = model(**windows)
        spans = [
            (float(outputs.start_logits[w, i] + outputs.end_logits[w, i]), offsets[w, i].tolist())
            for w in range(len(offsets))
            for i, part in enumerate(windows.sequence_ids(w))
            if part == 1
        ]
        score, (start, end) = max(spans)
        assert (answer["answer"], answer["start"], answer["end"]) == ("bread", start, end)
        assert answer["score"] == pytest.approx(score, rel=1e-4)
    (short,) = bundle.answers([(question, "a train of bread")])
    assert short["answer"] == "bread"
    with pytest.raises(UsageError, match="leaves no room"):
        bundle.answers([(" ".join(words), contexts[0])])
    for empty in ("", " \n"):
        with pytest.raises(UsageError, match="text 1 has an empty context"):
            bundle.answers([(question, "a train of bread"), (question, empty)])
    with pytest.raises(UsageError, match="longest is 0"):
        bundle.answers([(question, "bread")], longest=0)
    with pytest.raises(UsageError, match="stride is 64"):
        bundle.answers([(question, contexts[0])], stride=64)
    with pytest.raises(UsageError, match="text 1 is a single text"):
        bundle.answers([(question, "a"), "b"])  # type: ignore[list-item]


def test_masks_are_filled_as_the_pipeline_fills_them(tmp_path: Path) -> None:
    source = models.make_model(
        tmp_path / "source", "bert", "fill-mask", vocab_size=107, initializer_range=0.5, num_hidden_layers=1
    )
    bundle = headway.Bundle.open(export(Recipe(source=str(source)), tmp_path / "out").path)
    pipeline = transformers.pipeline("fill-mask", str(source), device="cpu")
    texts = ["the [MASK] runs", "[MASK] of bread and [MASK]"]
    single, several = bundle.fill(texts, count=3)
    theirs = pipeline(texts, top_k=3)
    for ours, wanted in zip([single, *several], [theirs[0], *theirs[1]], strict=True):
        assert [(f["id"], f["token"], f["text"]) for f in ours] == [
            (f["token"], f["token_str"], f["sequence"]) for f in wanted
        ]
        assert [f["score"] for f in ours] == pytest.approx([f["score"] for f in wanted], abs=1e-4)
    assert bundle.fill([]) == []
    with pytest.raises(UsageError, match=r"text 1 has no \[MASK\] to fill"):
        bundle.fill(["a [MASK]", "rain"])
    with pytest.raises(UsageError, match="in the part that is read"), pytest.warns(HeadwayWarning):
        bundle.fill([LONG + " [MASK]"])
    assert [found.truncated for found in bundle.fill([texts[0], "[MASK] " + LONG, "[MASK] [MASK] " + LONG])] == [
        False,
        True,
        True,
    ]
    bundle.manifest.tokenizer.mask_id = None  # as in older manifests
    assert [f["id"] for f in bundle.fill(texts[:1], count=3)[0]] == [f["id"] for f in single]


def test_choices(tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "source", "bert", "multiple-choice", num_hidden_layers=1)
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
        check_order([best], logits.numpy())
        assert probability == pytest.approx(float(logits.softmax(0)[best]), abs=1e-4)
    with pytest.raises(UsageError, match="choices"):
        bundle(["a text"])
    with pytest.raises(UsageError, match="question 1 has no options"):
        bundle.choices([("a model", ["runs", "text"]), ("a train", [])])
    with pytest.warns(HeadwayWarning, match="question 1 has more than 64 tokens"):
        chosen = bundle.choices([("a model", ["runs", "text"]), ("a model", ["runs", LONG])])
    assert [choice.truncated for choice in chosen] == [False, True]


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
