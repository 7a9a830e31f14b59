"""Layers that keep their old numbers are run in order; a layer that is not whole is refused."""

from pathlib import Path

import pytest
import torch

from headway.exporter.source.source import open_source

from tests.checkpoints.layer_drop import make_dropped
from tests.support import checkpoints, twins
from tests.support.refusals import edit_config


@pytest.mark.parametrize(
    ("kept", "of", "says", "sentence"),
    [
        ((0, 2, 5), 6, 6, "3 layers of 6, LayerDrop kept 0, 2, 5"),
        ((0, 2, 5), 6, 3, "3 layers, LayerDrop kept 0, 2, 5"),
        (
            (1, 3, 5),
            6,
            3,
            "3 layers, LayerDrop kept 1, 3, 5",
        ),  # every other layer, as Patient Knowledge Distillation takes them
        ((0, 1, 11), 12, 12, "3 layers of 12, LayerDrop kept 0, 1, 11"),
    ],
)
def test_layers_are_renumbered(kept: tuple[int, ...], of: int, says: int, sentence: str, tmp_path: Path) -> None:
    model = make_dropped(tmp_path, kept, of=of, says=says)
    source, _ = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert source.sentences == (sentence,) and source.config["num_hidden_layers"] == 3


def test_distilbert_has_its_own_names(tmp_path: Path) -> None:
    model = make_dropped(tmp_path, (0, 2, 3), of=4, family="distilbert")
    source, _ = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert source.sentences == ("3 layers of 4, LayerDrop kept 0, 2, 3",) and source.config["n_layers"] == 3


def test_renumbered_layers_are_an_ordinary_model(tmp_path: Path) -> None:
    model = make_dropped(tmp_path, (0, 2, 5), says=3, renumbered=True)
    source, _ = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert source.sentences == ()


def test_a_file_that_ends_early_is_no_layer_drop(tmp_path: Path) -> None:
    """Layers 0 to 2 of 6 are what is left of a file that is not whole as well: the config has to say that there are three."""
    make_dropped(tmp_path, (0, 1, 2))
    assert "lacks" in checkpoints.refusal(tmp_path)


def test_a_layer_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    make_dropped(tmp_path, (0, 2, 5))
    state = checkpoints.tensors(tmp_path)
    del state["encoder.layer.2.output.dense.weight"]
    checkpoints.save(tmp_path, state)
    assert "encoder.layer.2 lacks output.dense.weight" in checkpoints.refusal(tmp_path)


def test_a_family_whose_layers_differ_by_number_is_left_alone(tmp_path: Path) -> None:
    make_dropped(tmp_path, (0, 2, 5))
    edit_config(tmp_path, model_type="modernbert")
    assert open_source(str(tmp_path)).sentences == ()


SOUND = twins.Sound(
    lambda f: make_dropped(f, [0, 2], of=4),
    "encoder.layer.2.output.dense.weight",
    {twins.NORM: torch.ones(32)},
    ("encoder.layer.2", "encoder.layer.1"),
)
"""What `test_hostile_twins.py` makes twins of."""
