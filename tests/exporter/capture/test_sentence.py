"""Directories of sentence-transformers: its own modules are traced, and its own calls give the answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import headway
from headway.errors import SourceError
from headway.exporter.capture.base import Reference
from headway.exporter.capture.capture import capture, load_reference
from headway.exporter.check.parity import compare
from headway.exporter.check.verification_text import answers, verification_cases
from headway.exporter.export import export
from headway.exporter.graph.canonical import canonicalize
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.source import Source, open_source
from headway.exporter.source.tokenizer import source_encoder

from tests.checkpoints.word_models import make_word_model
from tests.support import models, retrieval_models

LINES = ["the PRICE of bread", "", "a", "rain and train " * 20]


def library(directory: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(directory), device="cpu", local_files_only=True)


def write(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | changes))


def add_module(directory: Path, kind: str, **settings: object) -> None:
    listed = json.loads((directory / "modules.json").read_text())
    place = f"{len(listed)}_{kind}"
    listed.append(
        {"idx": len(listed), "name": str(len(listed)), "path": place, "type": f"sentence_transformers.models.{kind}"}
    )
    (directory / "modules.json").write_text(json.dumps(listed))
    (directory / place).mkdir()
    write(directory / place / "config.json", **settings)


def add_dense(directory: Path, **settings: object) -> None:
    from safetensors.torch import save_file

    sizes = {
        "in_features": 32,
        "out_features": 32,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    add_module(directory, "Dense", **sizes, **settings)
    place = sorted(directory.glob("*_Dense"))[-1]
    weights = {"linear.weight": torch.randn(32, 32) * 0.3, "linear.bias": torch.randn(32)}
    save_file(weights, place / "model.safetensors")


def loaded(directory: Path) -> tuple[Reference, Source]:
    return load_reference(open_source(str(directory)))


@pytest.mark.parametrize(
    "pooling",
    [
        "mean",
        pytest.param("cls", marks=pytest.mark.slow),
        "max",
        pytest.param("mean_sqrt_len_tokens", marks=pytest.mark.slow),
        pytest.param("weightedmean", marks=pytest.mark.slow),
        "lasttoken",
    ],
)
def test_sentence_heads(pooling: str, tmp_path: Path) -> None:
    captured = capture(open_source(str(models.make_sentence_model(tmp_path, pooling, dense=True))))
    model = canonicalize(captured.model, longest=captured.source.positions).model
    ids = np.random.default_rng(0).integers(5, 290, (2, 7))
    mask = np.array([[1] * 7, [1] * 4 + [0] * 3])
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    with torch.no_grad():
        vectors = TorchGraph(model)(feeds)["sentence_embedding"].numpy()
    assert np.abs(vectors - captured.reference.run(feeds)["sentence_embedding"]).max() < 1e-5


def truncated(directory: Path) -> None:
    write(directory / "config_sentence_transformers.json", truncate_dim=8)


def lowered(directory: Path) -> None:
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    write(directory / "sentence_bert_config.json", do_lower_case=True)


def longer_than_the_tokenizer(directory: Path) -> None:
    write(directory / "tokenizer_config.json", model_max_length=16)
    write(directory / "sentence_bert_config.json", max_seq_length=48)


def residual(directory: Path) -> None:
    add_dense(directory, use_residual=True)


def dense_on_tokens(directory: Path) -> None:
    add_dense(directory, module_input_name="token_embeddings", module_output_name="token_embeddings")


def normal_tokens(directory: Path) -> None:
    add_module(directory, "Normalize", module_input_name="token_embeddings")


def old_names(directory: Path) -> None:
    write(directory / "config.json", architectures="BertModel")
    write(directory / "sentence_roberta_config.json", max_seq_length=20)


VARIANTS = [truncated, lowered, longer_than_the_tokenizer, residual, dense_on_tokens, normal_tokens, old_names]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_setting_counts(variant: Any, tmp_path: Path) -> None:
    """What is traced gives, from the bundle's tokenizer on, what `encode` gives; without the setting it would not."""
    plain = models.make_sentence_model(tmp_path / "source")
    before = library(plain).encode(LINES)
    variant(plain)
    reference, source = loaded(plain)
    encoder = source_encoder(source, tmp_path)
    cases = verification_cases(encoder, LINES, source, tmp_path)
    per_token = ["last_hidden_state"]
    parity = compare(cases, answers(reference, cases).outputs, reference.run, per_token=per_token, tolerance=1e-5)
    assert parity.ok
    after = library(plain).encode(LINES)
    assert np.abs(reference.run(encoder(LINES))["sentence_embedding"] - after).max() < 1e-5
    if variant is lowered:  # the vocabulary has small letters alone, which the tokenizer itself no longer makes
        assert np.abs(after - before).max() < 1e-6
    elif variant not in (
        dense_on_tokens,
        normal_tokens,
    ):  # they change what no pooling reads any more: the states alone
        assert after.shape != before.shape or np.abs(after - before).max() > 1e-2
    tokens = library(plain).encode(LINES[:1], output_value="token_embeddings")[0].numpy()
    assert np.abs(reference.run(encoder(LINES[:1]))["last_hidden_state"][0] - tokens).max() < 1e-5


def test_all_of_them_in_one_bundle(tmp_path: Path) -> None:
    source = models.make_sentence_model(tmp_path / "source")
    for variant in (truncated, lowered, longer_than_the_tokenizer, residual, normal_tokens):
        variant(source)
    from tests.exporter.source.test_sentence_modules import in_folder

    settings = (source / "config_sentence_transformers.json").read_text()
    in_folder(source)
    (source / "0_Transformer" / "config_sentence_transformers.json").unlink()
    (source / "config_sentence_transformers.json").write_text(settings)
    done = export(Recipe(source=str(source)), tmp_path / "out")
    assert done.manifest.parity["reference"].startswith("sentence-transformers 6")
    assert "SentenceTransformer.encode" in done.manifest.parity["reference"]
    vectors = headway.open(tmp_path / "out")(LINES)["sentence_embedding"]
    assert vectors.shape == (4, 8)
    assert np.abs(vectors - library(source).encode(LINES)).max() < 1e-5


def test_a_cross_encoder_is_judged_by_predict(bert_classifier: Path, tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    CrossEncoder(str(bert_classifier), device="cpu").save_pretrained(str(tmp_path / "source"))
    reference, source = loaded(tmp_path / "source")
    assert source.task == "text-classification" and "CrossEncoder.predict" in reference.judge
    encoder = source_encoder(source, tmp_path)
    cases = verification_cases(encoder, LINES, source, tmp_path)
    assert all(isinstance(text, tuple) for case in cases for text in case.texts)
    assert compare(cases, answers(reference, cases).outputs, reference.run, per_token=[], tolerance=1e-5).ok
    pairs = [(LINES[0], text) for text in LINES]
    scores = CrossEncoder(str(tmp_path / "source"), device="cpu").predict(pairs, activation_fn=torch.nn.Identity())
    assert np.abs(reference.run(encoder(pairs))["logits"] - scores).max() < 1e-5


def test_a_dense_layer_with_other_tensors_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = models.make_sentence_model(tmp_path, dense=True)
    path = source / "2_Dense" / "model.safetensors"
    save_file(load_file(path) | {"linear.mask": torch.ones(24, 32)}, path)
    with pytest.raises(SourceError, match=r"Unexpected key.*linear\.mask"):
        loaded(source)
    path.unlink()
    with pytest.raises(SourceError, match="cannot open the model"):
        loaded(source)


def test_the_users_text_is_refused_where_the_library_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, _ = loaded(models.make_sentence_model(tmp_path))

    def fails(*_: object, **__: object) -> None:
        raise IndexError("index out of range in self")

    monkeypatch.setattr(type(reference.module.opened), "encode", fails)  # type: ignore[attr-defined]
    with pytest.raises(SourceError, match="does not run on text: index out of range"):
        reference.from_text(["a"])


def test_a_long_text_is_judged_with_all_digits(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    source = retrieval_models.static(tmp_path)
    reference, _ = loaded(source)
    (rows,) = load_file(source / "model.safetensors").values()
    answer = reference.from_text(["the " * 8000])
    exact = rows[answer.ids[0]].astype(np.float64).mean(0)
    exact /= np.linalg.norm(exact)
    assert np.abs(answer.outputs["sentence_embedding"][0] - exact).max() < 1e-7


def test_columns_of_padding_alone_give_zeros_of_word_embeddings(tmp_path: Path) -> None:
    make_word_model(tmp_path, ["CNN"])
    reference, _ = loaded(tmp_path)
    ids, mask = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0]]), np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    short = reference.run({"input_ids": ids[:, :3], "attention_mask": mask[:, :3]})
    padded = reference.run({"input_ids": ids, "attention_mask": mask})
    assert padded["last_hidden_state"].shape == (2, 5, 36)  # three convolutions of 12 channels
    np.testing.assert_array_equal(padded["last_hidden_state"][:, :3], short["last_hidden_state"])
    assert short["last_hidden_state"][0].any() and not padded["last_hidden_state"][:, 3:].any()
    np.testing.assert_array_equal(padded["sentence_embedding"], short["sentence_embedding"])
