"""Masks of torch.nn.utils.prune are folded; halves of them are refused."""

from pathlib import Path

import pytest
import torch

from tests.checkpoints.pruned_masks import make_masked
from tests.support import checkpoints, twins


@pytest.mark.parametrize("prefix", ["", "module."])
def test_masks_are_folded_in_encoder_pooler_and_classifier(prefix: str, tmp_path: Path) -> None:
    model = make_masked(tmp_path, prefix=prefix)
    source, graph = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert "pruning masks folded into 14 tensors" in source.sentences
    assert any("module." in s for s in source.sentences) == bool(prefix)
    zeros = graph.graph.initializers["bert.encoder.layer.0.intermediate.dense.weight"].const_value
    assert zeros is not None and 0.39 < (zeros.numpy() == 0).mean() < 0.41


def test_a_mask_that_is_missing_or_of_another_shape_is_refused(tmp_path: Path) -> None:
    make_masked(tmp_path)
    state = checkpoints.tensors(tmp_path)
    name = "bert.pooler.dense.weight"
    checkpoints.save(tmp_path, {k: v for k, v in state.items() if k != f"{name}_mask"})
    assert f"{name}_orig has no {name}_mask beside it" in checkpoints.refusal(tmp_path)
    checkpoints.save(tmp_path, state | {f"{name}_mask": torch.ones(32, 31)})
    assert f"{name}_mask is [32, 31]" in checkpoints.refusal(tmp_path)


def test_a_weight_with_and_without_its_mask_is_refused(tmp_path: Path) -> None:
    make_masked(tmp_path)
    checkpoints.save(tmp_path, checkpoints.tensors(tmp_path) | {"classifier.weight": torch.ones(2, 32)})
    assert "classifier.weight is saved both with its mask and without" in checkpoints.refusal(tmp_path)


def test_a_mask_alone_is_refused(tmp_path: Path) -> None:
    make_masked(tmp_path)
    state = checkpoints.tensors(tmp_path)
    checkpoints.save(tmp_path, {k: v for k, v in state.items() if k != "classifier.weight_orig"})
    assert "classifier.weight" in checkpoints.refusal(tmp_path)


SOUND = twins.Sound(lambda f: make_masked(f, 0.5), "classifier.weight_mask", {"classifier.weight": torch.ones(2, 32)})
"""What `test_hostile_twins.py` makes twins of."""
