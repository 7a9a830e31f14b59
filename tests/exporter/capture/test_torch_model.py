"""A loaded model is traced: inputs, outputs and weights have the source's own names."""

from pathlib import Path

import numpy as np
import pytest
import torch

from headway.errors import SourceError
from headway.exporter.capture.capture import capture, load_reference
from headway.exporter.capture.sentence import _Classifier
from headway.exporter.capture.torch_model import trace_model, traced_length
from headway.exporter.source.setfit_head import SetFitHead
from headway.exporter.source.source import Source, open_source

from tests.support import models, traces


def test_names_are_those_of_the_source(bert_classifier: Path) -> None:
    graph = capture(open_source(str(bert_classifier))).model.graph
    assert [v.name for v in graph.inputs] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [v.name for v in graph.outputs] == ["logits"]
    assert "classifier.weight" in graph.initializers


def test_what_torch_cannot_trace_is_refused(bert_classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, source = load_reference(open_source(str(bert_classifier)))

    def fails(*_: object, **__: object) -> None:
        raise raised[-1]

    monkeypatch.setattr(torch.export, "export", fails)
    raised: list[Exception] = []
    for error, says in (
        (
            ValueError("data-dependent control flow. And more"),
            r"decides by numbers that depend on the text \(data-dependent c.* flow\)$",
        ),
        (
            ValueError("Constraints violated\n- 33"),
            "its code fixes the batch or the sequence to the size that it was traced at",
        ),
        (ValueError("no kernel"), "could not export the model: no kernel$"),
    ):
        raised.append(error)
        with pytest.raises(SourceError, match=says):
            trace_model(reference.module, source, whole=True)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({}, 33),
        ({"max_position_embeddings": 20}, 19),
        ({"max_position_embeddings": 4}, 7),
        ({"sliding_window": 64, "max_position_embeddings": 512}, 131),
        ({"local_attention": 128, "max_position_embeddings": 200}, 199),
        ({"sliding_window": True, "window": "wide"}, 33),
        ({"sliding_window": 1 << 20, "max_position_embeddings": 1 << 16}, 33),  # so wide that it is none
    ],
)
def test_traces_are_longer_than_windows(config: dict, length: int) -> None:
    assert traced_length(Source("huggingface", "x", "feature-extraction", None, config)) == length


def test_a_kept_trace_is_not_that_of_a_module_with_other_settings() -> None:
    heads = (
        SetFitHead(Path("x"), np.eye(2, dtype=np.float32), np.zeros(2, np.float32), ("a", "b"), n, False)
        for n in (False, True)
    )
    one, other = (traces._settings(_Classifier(head)) for head in heads)
    assert one != other


def test_a_trace_is_kept_for_a_model_wherever_it_lies(tmp_path: Path) -> None:
    keys = set()
    for folder in ("one", "other"):
        reference, source = load_reference(open_source(str(models.make_model(tmp_path / folder))))
        keys.add(traces._key(reference.module, source, list(reference.module.outputs)))
    assert len(keys) == 1
