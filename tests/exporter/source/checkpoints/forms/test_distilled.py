"""TinyBERT is read as it is published; a config without a family is BERT's where the tensors are."""

from pathlib import Path

import pytest
import torch

from headway.exporter.graph.anatomy import read_anatomy

from tests.checkpoints.tiny_bert import make_tiny_bert
from tests.support import checkpoints, models, twins
from tests.support.refusals import edit_config


@pytest.mark.parametrize("layers", [True, False])
def test_layers_of_the_distillation_are_dropped(layers: bool, tmp_path: Path) -> None:
    model = make_tiny_bert(tmp_path, layers=layers)
    source, graph = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert source.sentences == (
        f"{10 if layers else 2} tensors of fit_dense, which training alone runs, dropped; config.json names no family; its tensors "
        "and sizes are BERT's",
    )
    attention = read_anatomy(graph).blocks[0].attention
    assert attention is not None and (attention.heads, attention.head_dim) == (2, 26)


def test_notes_that_contradict_the_sizes(tmp_path: Path) -> None:
    make_tiny_bert(tmp_path)
    edit_config(tmp_path, emb_size=312)
    assert "emb_size = 312 of config.json is not hidden_size = 52" in checkpoints.refusal(tmp_path)


@pytest.mark.parametrize("family", ["roberta", "electra"])
def test_a_family_is_not_guessed(family: str, tmp_path: Path) -> None:
    models.make_model(tmp_path, family)
    checkpoints.save(tmp_path, checkpoints.tensors(tmp_path), model_type=None)
    assert "model_type" in checkpoints.refusal(tmp_path)


SOUND = twins.Sound(make_tiny_bert, f"bert.{twins.NORM}", {"fit.weight": torch.ones(2)}, (twins.NORM,))
"""What `test_hostile_twins.py` makes twins of."""
