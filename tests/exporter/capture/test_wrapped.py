"""Torch models with positional inputs and the task's outputs."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from headway.errors import SourceError
from headway.exporter.capture.wrapped import WrappedModel, check_inputs, input_names
from headway.exporter.source.source import Source, open_source


class Model(torch.nn.Module):
    """Gives what it is asked for."""

    def __init__(self, **outputs: Any):
        super().__init__()
        self.outputs = outputs

    def forward(
        self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None, return_dict: bool = False
    ) -> Any:
        assert return_dict
        return self.outputs


def source(task: str) -> Source:
    return Source("factory", "my:model", task, None, {})


def test_inputs_are_those_that_forward_takes() -> None:
    assert input_names(Model()) == ["input_ids", "attention_mask", "token_type_ids"]
    assert input_names(torch.nn.Linear(1, 1)) == ["input_ids", "attention_mask"]


def test_token_types_are_an_input_where_the_config_has_them() -> None:
    """GPT-Neo looks the types up among its tokens: zeros would not be nothing."""
    model = Model()
    model.config = SimpleNamespace(model_type="gpt_neo")
    assert input_names(model) == ["input_ids", "attention_mask"]
    model.config = SimpleNamespace(model_type="roberta", type_vocab_size=1)
    assert input_names(model) == ["input_ids", "attention_mask"]
    model.config = SimpleNamespace(model_type="bert", type_vocab_size=2)
    assert input_names(model) == ["input_ids", "attention_mask", "token_type_ids"]


def test_a_model_without_a_mask_gets_none() -> None:
    def forward(self: torch.nn.Module, input_ids: torch.Tensor) -> dict:
        return {"last_hidden_state": input_ids}

    assert input_names(type("Mixer", (torch.nn.Module,), {"forward": forward})()) == ["input_ids"]


@pytest.mark.parametrize(
    ("name", "config", "refused"),
    [
        ("bbox", {}, True),
        ("task_type_ids", {"use_task_id": True}, True),
        ("task_type_ids", {"use_task_id": False}, False),
        ("langs", {"use_lang_emb": True, "n_langs": 3}, True),
        ("langs", {"use_lang_emb": True, "n_langs": 1}, False),
        ("token_type_ids", {"type_vocab_sizes": [3, 256]}, True),
        ("token_type_ids", {"type_vocab_size": 2}, False),
    ],
)
def test_inputs_that_text_does_not_give_are_refused_by_name(name: str, config: dict, refused: bool) -> None:
    forward = eval(f"lambda self, input_ids, attention_mask, {name}=None: None")
    model = type("Layout", (torch.nn.Module,), {"forward": forward})()
    model.config = SimpleNamespace(**config)
    with pytest.raises(SourceError, match=f"my:model: Layout takes {name} beside text") if refused else nullcontext():
        check_inputs(model, source("feature-extraction"))


def test_outputs_are_those_of_the_task_then_extra_ones() -> None:
    wrapped = WrappedModel(Model(end_logits=2, start_logits=1, loss=0), source("question-answering"))
    wrapped.extra = [7]
    assert wrapped(0, 0, 0) == (1, 2, 7)


def test_an_output_that_is_missing_is_named() -> None:
    with pytest.raises(SourceError, match=r"my:model: task 'fill-mask' wants output 'logits', the model gives \['x'\]"):
        WrappedModel(Model(x=1), source("fill-mask"))(0, 0, 0)


@pytest.mark.parametrize(
    ("outputs", "name", "says"),
    [
        (["logits"], "TinyForSequenceClassification", r"give `task` \(--task\) text-classification$"),
        (["logits"], "Tiny", r"as what it is: fill-mask, text-classification, token-classification, multiple-choice$"),
        (["start_logits", "end_logits"], "Tiny", r"as what it is: question-answering$"),
        (["scores"], "Tiny", "name the outputs as a task of transformers does"),
    ],
)
def test_a_factory_without_a_task_is_told_which_to_give(outputs: list[str], name: str, says: str) -> None:
    def forward(self: torch.nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict:
        return dict.fromkeys(outputs, input_ids)

    model = type(name, (torch.nn.Module,), {"forward": forward})()
    ids = torch.ones(1, 4, dtype=torch.int64)
    with pytest.raises(SourceError, match=says):
        WrappedModel(model, open_source("my:model"))(ids, ids)
