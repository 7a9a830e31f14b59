"""A base takes the class and the sizes that its adapter was trained with."""

from pathlib import Path
from typing import Any

import pytest
import torch

from headway.exporter.source.checkpoints.adapted_task import with_task
from headway.exporter.source.checkpoints.adapter import Adapter
from headway.exporter.source.checkpoints.checkpoint import Checkpoint
from headway.exporter.source.checkpoints.state import given

BERT = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 9}
HEAD = {"classifier.weight": given(torch.ones(3, 4)), "classifier.bias": given(torch.ones(3))}


def _config(tmp_path: Path, task: str | None, taken: dict, config: dict) -> dict[str, Any]:
    adapter = Adapter(tmp_path, {"peft_type": "LORA", "task_type": task}, {})
    return dict(with_task(Checkpoint(tmp_path, config, {}), adapter, taken).config)


@pytest.mark.parametrize(
    ("task", "name"), [("SEQ_CLS", "BertForSequenceClassification"), ("TOKEN_CLS", "BertForTokenClassification")]
)
def test_a_head_brings_its_class_and_number_of_classes(task: str, name: str, tmp_path: Path) -> None:
    config = _config(tmp_path, task, HEAD, BERT)
    assert config["architectures"] == [name]
    assert list(config["id2label"]) == ["0", "1", "2"]


def test_names_of_classes_stay_where_their_number_fits(tmp_path: Path) -> None:
    named = BERT | {"id2label": {"0": "a", "1": "b", "2": "c"}}
    assert _config(tmp_path, "SEQ_CLS", HEAD, named)["id2label"] == named["id2label"]


def test_a_vocabulary_that_grew_is_counted(tmp_path: Path) -> None:
    grown = {"bert.embeddings.word_embeddings.weight": given(torch.ones(12, 4))}
    config = _config(tmp_path, None, grown, BERT)
    assert (config["vocab_size"], config["architectures"]) == (12, ["BertModel"])
