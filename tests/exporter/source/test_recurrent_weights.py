"""State dicts of recurrent layers are named, and refused with the way on."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from headway.errors import SourceError
from headway.exporter.capture.capture import load_reference
from headway.exporter.source.checkpoints.state import given
from headway.exporter.source.recurrent_weights import recurrent_layers
from headway.exporter.source.source import open_source


def state() -> dict[str, torch.Tensor]:
    parts = {"embedding": torch.nn.Embedding(30, 12), "lstm": torch.nn.LSTM(12, 8, 2, bidirectional=True)}
    return torch.nn.ModuleDict(parts | {"fc": torch.nn.Linear(16, 2)}).state_dict()


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin", "student.pt"])
@pytest.mark.parametrize("config", [None, {}, {"vocab_size": 30, "hidden_dim": 8}])
def test_what_the_layers_are_is_said(config: dict | None, file: str, tmp_path: Path) -> None:
    save = save_file if file.endswith(".safetensors") else torch.save
    save(state(), tmp_path / file)  # type: ignore[operator]
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SourceError, match="lstm: LSTM of 2 layers in both directions, 12 to 8 features") as caught:
        load_reference(open_source(str(tmp_path), allow_pickle=True))
    assert "module:callable" in str(caught.value)


def test_kinds_and_shapes_that_lie() -> None:
    def said(module: torch.nn.Module, **others: torch.Tensor) -> str | None:
        return recurrent_layers({n: given(t) for n, t in {**module.state_dict(), **others}.items()})

    assert said(torch.nn.GRU(4, 3)) == "weights: GRU of 1 layer, 4 to 3 features"
    assert said(torch.nn.RNN(4, 3)) == "weights: RNN of 1 layer, 4 to 3 features"
    assert said(torch.nn.LSTM(4, 3), weight_hh_l0=torch.ones(12)) is None
    assert said(torch.nn.LSTM(4, 3), weight_hh_l0=torch.ones(12, 0)) is None
    assert said(torch.nn.Linear(4, 3)) is None
