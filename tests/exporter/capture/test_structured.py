"""A model is built to the sizes of its tensors, loaded by transformers itself, and computes what those tensors say."""

from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from headway.exporter.capture.structured import load_structured
from headway.exporter.source.checkpoints.checkpoint import Checkpoint
from headway.exporter.source.checkpoints.state import given

SETTINGS = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
}
IDS = torch.arange(12).reshape(2, 6)


@pytest.fixture(scope="module")
def whole() -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**SETTINGS)).eval()


def _loaded(state: dict, **changes: object) -> BertForSequenceClassification:
    checkpoint = Checkpoint(
        Path("x"), {**SETTINGS, "model_type": "bert"}, {n: given(t) for n, t in state.items()}, **changes
    )
    load = partial(BertForSequenceClassification.from_pretrained, output_loading_info=True)
    model, report = load_structured(BertForSequenceClassification, checkpoint, load)
    assert not any(report.values())
    return model.eval()


def test_a_head_that_was_cut_is_a_head_whose_result_is_zero(whole: BertForSequenceClassification) -> None:
    state = {n: t.clone() for n, t in whole.state_dict().items()}
    place = "bert.encoder.layer.1.attention"
    state[f"{place}.output.dense.weight"][:, 4:8] = 0
    expected = BertForSequenceClassification(BertConfig(**SETTINGS)).eval()
    expected.load_state_dict(state)
    rows = [i for i in range(16) if not 4 <= i < 8]
    for name in ("query", "key", "value"):
        for part in ("weight", "bias"):
            state[f"{place}.self.{name}.{part}"] = state[f"{place}.self.{name}.{part}"][rows]
    state[f"{place}.output.dense.weight"] = state[f"{place}.output.dense.weight"][:, rows]
    layers = {f"{place}.self.{n}" for n in ("query", "key", "value")} | {f"{place}.output.dense"}
    model = _loaded(state, resized=frozenset(layers))
    assert [layer.attention.self.num_attention_heads for layer in model.bert.encoder.layer] == [4, 3]
    torch.testing.assert_close(model(IDS).logits, expected(IDS).logits, atol=1e-6, rtol=0)


def test_two_factors_are_two_layers_one_after_the_other(whole: BertForSequenceClassification) -> None:
    state = {n: t.clone() for n, t in whole.state_dict().items()}
    place = "bert.encoder.layer.0.intermediate.dense"
    first, second = torch.randn(3, 16), torch.randn(24, 3)
    state[f"{place}.weight"] = second @ first
    expected = BertForSequenceClassification(BertConfig(**SETTINGS)).eval()
    expected.load_state_dict(state)
    del state[f"{place}.weight"]
    state |= {f"{place}.0.weight": first, f"{place}.1.weight": second, f"{place}.1.bias": state.pop(f"{place}.bias")}
    model = _loaded(state, resized=frozenset([place]))
    torch.testing.assert_close(model(IDS).logits, expected(IDS).logits, atol=1e-6, rtol=0)


def test_a_norm_can_be_a_scale_and_a_shift_alone(whole: BertForSequenceClassification) -> None:
    place = "bert.encoder.layer.0.output.LayerNorm"
    model = _loaded(dict(whole.state_dict()), replaced={place: "no_norm"})
    norm = model.get_submodule(place)
    x = torch.randn(2, 16)
    torch.testing.assert_close(norm(x), x * norm.weight + norm.bias)
    assert type(norm).__name__ == "NoNorm"


def test_the_constructor_is_as_before_afterwards(whole: BertForSequenceClassification) -> None:
    before = BertForSequenceClassification.__init__
    _loaded(dict(whole.state_dict()))
    assert BertForSequenceClassification.__init__ is before
