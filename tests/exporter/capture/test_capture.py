"""A source of any kind is captured, or its reference loaded alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headway.exporter.capture.capture import capture, load_reference
from headway.exporter.source.source import open_source

from tests.support.onnx_files import torchscript_file
from tests.support.variants import feeds


def test_the_reference_alone_is_that_of_a_capture(bert_classifier: Path) -> None:
    source = open_source(str(bert_classifier))
    reference, completed = load_reference(source)
    captured = capture(source)
    assert completed == captured.source == replace(source, probed=66)
    given = feeds()
    assert np.array_equal(reference.run(given)["logits"], captured.reference.run(given)["logits"])
    names = set(captured.model.graph.initializers)
    assert "bert.encoder.layer.0.output.dense.weight" in names and not any(n.startswith("model.") for n in names)
    assert [i.name for i in captured.model.graph.inputs] == ["input_ids", "attention_mask", "token_type_ids"]


def test_a_factory_tells_its_config_when_it_is_loaded(
    bert_classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "factory_of_capture.py").write_text(
        "import transformers\n"
        "def build():\n"
        f"    return transformers.AutoModelForSequenceClassification.from_pretrained({str(bert_classifier)!r})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    _, source = load_reference(open_source("factory_of_capture:build", task="text-classification"))
    assert source.config["vocab_size"] == 300 and source.directory == bert_classifier


def test_a_file_is_its_own_reference(tmp_path: Path) -> None:
    source = open_source(str(torchscript_file(tmp_path, "bert", 17, "sdpa")))
    reference, completed = load_reference(source)
    assert completed is source and source.kind == "onnx"
    assert np.allclose(reference.run(feeds())["logits"], capture(source).reference.run(feeds())["logits"])
