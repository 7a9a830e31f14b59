"""Models of word embeddings: exported as sentence-transformers encodes, and refused where their files do not fit."""

import json
import random
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from safetensors.torch import save_file

from headway.bundle import Bundle
from headway.errors import SourceError
from headway.exporter.capture.capture import load_reference
from headway.exporter.export import export
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.source.source import open_source

from tests.checkpoints.word_models import WORDS, make_word_model

TEXTS = [
    "The model reads U.S. words, u.s. Apple apple.",
    "",
    "the the",
    "a good Film of many films, and it DON'T",
    "(news) market",
]


@pytest.mark.parametrize("layers", [["LSTM"], ["CNN"], ["WordWeights"]], ids=str)
def test_embeddings_are_those_of_the_library(layers: list[str], tmp_path: Path) -> None:
    model = make_word_model(tmp_path / "model", layers)
    made = export(make_recipe("test", source=str(tmp_path / "model")), tmp_path / "bundle")
    assert made.parity.ok
    bundle = Bundle.open(tmp_path / "bundle")
    assert np.abs(bundle.encode(TEXTS) - model.encode(TEXTS)).max() < 1e-5
    for text in TEXTS:
        assert np.abs(bundle.encode([text]) - model.encode([text])).max() < 1e-5


@pytest.mark.slow
def test_words_and_lstms_are_trimmed_and_int8_and_answers_depend_on_no_batch(tmp_path: Path) -> None:
    others = [f"w{i}" for i in range(3000)]
    model = make_word_model(tmp_path / "model", ["LSTM"], words=[*WORDS, *others], size=32, hidden=24)
    choose = random.Random(0)
    lines = [" ".join(choose.choices([*WORDS[1:], *others[:200]], k=choose.randint(3, 20))) for _ in range(400)]
    (tmp_path / "text.txt").write_text("\n".join(dict.fromkeys(lines)))
    recipe = {"source": str(tmp_path / "model"), "data": str(tmp_path / "text.txt"), "max_drop": 50}
    passes = [{"kind": "trim_vocabulary"}, {"kind": "quantize"}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = export(make_recipe("test", **recipe, passes=passes), tmp_path / "bundle")
        phone = export(make_recipe("test", **recipe, passes=passes[1:], target="ort-mobile"), tmp_path / "phone")
    assert made.parity.ok and phone.parity.ok
    graph = onnx.load(tmp_path / "bundle" / "model.onnx", load_external_data=False).graph
    assert [n.op_type for n in graph.node].count("DequantizeLinear") == 4
    sizes = {i.name: (i.data_type, i.dims[0]) for i in graph.initializer if i.name.endswith(("_l0", "_l1", ".weight"))}
    assert {kind for name, (kind, _) in sizes.items() if ".B_" not in name} <= {TensorProto.INT8, TensorProto.FLOAT}
    assert all(kind == TensorProto.INT8 for name, (kind, _) in sizes.items() if ".W_" in name or ".R_" in name)
    assert 200 < sizes["emb_layer.weight"][1] < 1000
    bundle = Bundle.open(tmp_path / "bundle")
    together = bundle.encode(lines[:40])
    apart = np.concatenate([bundle.encode([line]) for line in lines[:40]])
    assert np.abs(together - apart).max() < 1e-6
    wanted = model.encode(lines[:40])
    cosines = (together * wanted).sum(1) / np.linalg.norm(together, axis=1) / np.linalg.norm(wanted, axis=1)
    assert cosines.min() > 0.99
    reasons = json.loads((tmp_path / "phone" / "headway.json").read_text())["compression"]["left_in_float"]
    assert sum("weights of LSTMs in every run" in reason for reason in reasons.values()) == 4


def refusal(directory: Path) -> str:
    with pytest.raises(SourceError) as caught:
        load_reference(open_source(str(directory)))
    return str(caught.value)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    make_word_model(tmp_path, ["CNN"])
    words, layer = tmp_path / "0_WordEmbeddings", tmp_path / "1_CNN"
    words = words if words.is_dir() else tmp_path
    file, settings = words / "model.safetensors", layer / "cnn_config.json"
    table = file.read_bytes()
    save_file({"emb_layer.weight": torch.ones(3, 16)}, file)
    assert "and the embeddings have 3 rows" in str(_encoder_refusal(tmp_path))
    save_file({"emb_layer.weight": torch.ones(30, 16), "other": torch.ones(1)}, file)
    assert "beside other" in refusal(tmp_path)
    save_file({"table": torch.ones(30, 16)}, file)
    assert "is missing here" in refusal(tmp_path)
    file.write_bytes(table[:-8])
    assert "truncated" in refusal(tmp_path)
    file.write_bytes(table)
    given = json.loads(settings.read_text())
    settings.write_text(json.dumps(given | {"kernel_sizes": [1, 4]}))
    assert "kernel_sizes = [1, 4]" in refusal(tmp_path)
    settings.write_text(json.dumps(given | {"stride_sizes": [2, 1, 1]}))
    assert "stride_sizes = [2, 1, 1]" in refusal(tmp_path)
    settings.write_text(json.dumps(given))
    config = words / "wordembedding_config.json"
    config.write_text(config.read_text().replace("WhitespaceTokenizer", "PhraseTokenizer"))
    assert "PhraseTokenizer" in refusal(tmp_path)


def _encoder_refusal(directory: Path) -> SourceError:
    from headway.exporter.source.tokenizer import source_tokenizer

    with pytest.raises(SourceError) as caught:
        source_tokenizer(open_source(str(directory)))
    return caught.value


def test_other_tasks_are_refused(tmp_path: Path) -> None:
    make_word_model(tmp_path, [])
    with pytest.raises(SourceError, match="has no task 'feature-extraction'"):
        load_reference(open_source(str(tmp_path), task="feature-extraction"))
