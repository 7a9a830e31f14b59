"""The number of positions is found by running the model."""

import pytest
import torch

from headway.exporter.capture.positions import probed_positions
from headway.exporter.capture.wrapped import Wrapped
from headway.exporter.source.source import Source


class Counting(torch.nn.Module):
    """Count positions from `first` on, as RoBERTa does behind its padding id; from 0 on where tokens are `relative`."""

    def __init__(self, first: int, relative: bool = False) -> None:
        super().__init__()
        self.words, self.places = torch.nn.Embedding(300, 4), torch.nn.Embedding(40, 4)
        self.first, self.relative = first, relative

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.words(input_ids)
        if not self.relative:
            x = x + self.places(torch.arange(input_ids.shape[-1]) + self.first)
        return {"last_hidden_state": x}


class Distances(torch.nn.Module):
    """Look up the distance of each two tokens; of more than 4 tokens apart, `shared` rows as in MPNet and T5, else rows of their own."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.words, self.apart = torch.nn.Embedding(300, 4), torch.nn.Embedding(32, 1)
        self.shared = shared

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        places = torch.arange(input_ids.shape[-1])
        apart = (places[:, None] - places).clamp(min=0)
        apart = torch.where(apart > 4, 4 + apart // 8, apart) if self.shared else apart
        return {"last_hidden_state": self.apart(apart)[..., 0] @ self.words(input_ids)}


class Given(Wrapped):
    """Hand features to a model as they are."""

    def results(self, features: dict) -> dict:
        results: dict = self.model(**features)
        return results


def positions(model: torch.nn.Module, **config: object) -> int | None:
    source = Source("factory", "x", "feature-extraction", None, config)
    return probed_positions(Given(model, source), source)


@pytest.mark.parametrize("first", [0, 1, 2, 7])
def test_positions_before_the_first_are_not_there_for_tokens(first: int) -> None:
    assert positions(Counting(first)) == 40 - first


def test_without_position_embeddings_nothing_is_told() -> None:
    assert positions(Counting(0, relative=True)) is None


def test_distances_that_share_rows_are_no_limit_and_others_are() -> None:
    assert positions(Distances(shared=True)) is None
    assert positions(Distances(shared=False)) == 32


@pytest.mark.parametrize("kind", ["MPNet", "T5Encoder"])
def test_families_with_distances_take_more_tokens_than_those_have_rows(kind: str) -> None:
    import transformers

    sizes = {
        "vocab_size": 300,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    t5 = {"vocab_size": 300, "d_model": 32, "num_layers": 1, "num_heads": 2, "d_kv": 16, "d_ff": 32}
    config = (
        transformers.MPNetConfig(**sizes, max_position_embeddings=130)
        if kind == "MPNet"
        else transformers.T5Config(**t5)
    )
    model = getattr(transformers, f"{kind}Model")(config).eval()
    assert positions(model, **config.to_dict()) == (128 if kind == "MPNet" else None)


def test_a_model_that_does_not_run_tells_nothing() -> None:
    assert positions(Counting(38)) is None


def test_the_probed_number_is_the_sources() -> None:
    source = Source("huggingface", "x", "feature-extraction", None, {"max_position_embeddings": 66}, probed=64)
    assert (source.positions, source.longest) == (64, 64)
