"""How logits are read is decided by the config, and by what a cross-encoder's versions wrote beside it."""

import json
from pathlib import Path
from typing import Any

import pytest

from headway.errors import SourceError
from headway.exporter.source.scoring import label_names, scoring_of
from headway.exporter.source.source import Source
from headway.tasks import Scoring

SIGMOID, IDENTITY = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"


def source(config: dict[str, Any], directory: Path | None = None, task: str = "text-classification") -> Source:
    return Source("huggingface", "model", task, directory, config)


@pytest.mark.parametrize(
    ("config", "beside", "wanted"),
    [
        ({"id2label": {"0": "LABEL_0"}}, None, Scoring("value", "sigmoid")),
        ({"num_labels": 1}, None, Scoring("value", "sigmoid")),
        ({}, None, Scoring("single-label", "softmax")),
        ({"problem_type": "multi_label_classification"}, None, Scoring("multi-label", "sigmoid")),
        ({"problem_type": "regression", "num_labels": 1}, None, Scoring("value", "identity")),
        ({"num_labels": 1, "sentence_transformers": {"activation_fn": IDENTITY}}, None, Scoring("value", "identity")),
        ({"num_labels": 1, "sbert_ce_default_activation_function": IDENTITY}, None, Scoring("value", "identity")),
        ({"num_labels": 1}, {"activation_fn": IDENTITY}, Scoring("value", "identity")),
        ({"num_labels": 1}, {"activation_fn": "torch.nn.modules.activation.Tanh"}, Scoring("value", "tanh")),
        ({"num_labels": 3}, {"activation_fn": IDENTITY}, Scoring("single-label", "softmax")),
        ({"num_labels": 3}, {"activation_fn": SIGMOID}, Scoring("multi-label", "sigmoid")),
        ({"num_labels": 1}, {"prompts": {}}, Scoring("value", "sigmoid")),
    ],
)
def test_config_and_cross_encoder_decide(config: dict, beside: dict | None, wanted: Scoring, tmp_path: Path) -> None:
    if beside is not None:
        (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(beside))
    assert scoring_of(source(config, tmp_path)) == wanted


def test_the_graph_s_number_of_logits_comes_before_the_config_s() -> None:
    assert scoring_of(source({}), columns=1) == Scoring("value", "sigmoid")
    assert scoring_of(source({"num_labels": 1}), columns=4) == Scoring("single-label", "softmax")


def test_other_tasks_have_no_scores() -> None:
    assert scoring_of(source({"num_labels": 1}, task="token-classification")) is None


@pytest.mark.parametrize("named", ["torch.nn.modules.activation.GELU", "mine.Sigmoid"])
def test_an_activation_that_is_not_known_is_named(named: str) -> None:
    with pytest.raises(
        SourceError, match=rf"model: the cross-encoder's activation {named} is not known; known are Sigmoid"
    ):
        scoring_of(source({"num_labels": 1, "sentence_transformers": {"activation_fn": named}}))


def test_labels_stand_in_the_order_of_their_numbers() -> None:
    assert label_names({"id2label": {"10": "k", "2": "c", "0": "a"}}) == ["a", "c", "k"]
    assert label_names({"num_labels": 3}) == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert label_names({}) == ["LABEL_0", "LABEL_1"]
