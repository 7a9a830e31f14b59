"""A loaded model is traced: inputs, outputs and weights have the source's own names."""

from pathlib import Path

import pytest
import torch

from headway.errors import SourceError
from headway.exporter.capture.capture import capture, load_reference
from headway.exporter.capture.torch_model import trace_model
from headway.exporter.source.source import open_source


def test_names_are_those_of_the_source(bert_classifier: Path) -> None:
    graph = capture(open_source(str(bert_classifier))).model.graph
    assert [v.name for v in graph.inputs] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [v.name for v in graph.outputs] == ["logits"]
    assert "classifier.weight" in graph.initializers


def test_what_torch_cannot_trace_is_refused(bert_classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, source = load_reference(open_source(str(bert_classifier)))

    def fails(*_: object, **__: object) -> None:
        raise ValueError("data-dependent control flow")

    monkeypatch.setattr(torch.export, "export", fails)
    with pytest.raises(SourceError, match="torch could not export the model: data-dependent"):
        trace_model(reference.module, source, whole=True)  # type: ignore[attr-defined]
