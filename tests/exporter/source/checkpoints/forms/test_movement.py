"""Scores of movement pruning become masks where the threshold is known, and are refused where it is not."""

from pathlib import Path

import pytest
import torch

from tests.checkpoints.movement_pruned import make_moved
from tests.support import checkpoints, twins
from tests.support.refusals import edit_config


@pytest.mark.parametrize(
    ("method", "threshold", "said"),
    [
        ("topK", 0.3, "topK masks, 0.3 kept"),
        ("sigmoied_threshold", 0.6, "sigmoied_threshold masks 0.6"),
        ("l0", None, "l0 masks"),
    ],
)
def test_masks_of_scores(method: str, threshold: float | None, said: str, tmp_path: Path) -> None:
    model = make_moved(tmp_path, method, threshold or 0.0)
    if threshold is not None:
        edit_config(tmp_path, final_threshold=threshold)
    source, _ = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert source.sentences[0] == f"movement pruning's {said}, folded into 13 weights"
    assert source.config["model_type"] == "bert" and source.task == "text-classification"


def test_masks_of_magnitudes(tmp_path: Path) -> None:
    """No scores are saved for it: the config alone says that small weights do not count."""
    model = checkpoints.base(tmp_path, task="text-classification")
    checkpoints.save(
        tmp_path, model.state_dict(), model_type="masked_bert", pruning_method="magnitude", final_threshold=0.5
    )
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and ("encoder" in name or "pooler" in name):
                smallest = module.weight.abs().flatten().argsort()[: module.weight.numel() // 2]
                module.weight.flatten()[smallest] = 0
    source, _ = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert source.sentences == (
        "movement pruning's magnitude masks, 0.5 kept, folded into 13 weights",
        "50 % zeros, unstructured: smaller at rest, not faster",
    )


def test_a_threshold_that_is_in_none_of_the_files_is_asked_for(tmp_path: Path) -> None:
    make_moved(tmp_path, "topK", 0.3)
    assert "write the final_threshold that the model was trained with" in checkpoints.refusal(tmp_path)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    make_moved(tmp_path, "topK", 0.3)
    edit_config(tmp_path, final_threshold=0.3)
    state = checkpoints.tensors(tmp_path)
    name = "bert.pooler.dense.mask_scores"
    checkpoints.save(tmp_path, state | {name: torch.ones(32, 31)})
    assert f"{name} is [32, 31]" in checkpoints.refusal(tmp_path)
    checkpoints.save(tmp_path, {k: v for k, v in state.items() if not k.endswith("mask_scores")})
    assert "no weight has mask_scores" in checkpoints.refusal(tmp_path)
    checkpoints.save(tmp_path, state, pruning_method="other")
    assert "pruning_method of config.json = 'other'" in checkpoints.refusal(tmp_path)
    checkpoints.save(
        tmp_path, {k: v for k, v in state.items() if k != "bert.pooler.dense.weight"}, pruning_method="topK"
    )
    assert "bert.pooler.dense" in checkpoints.refusal(tmp_path)


def _moved(directory: Path) -> None:
    make_moved(directory, "topK", 0.5)
    edit_config(directory, final_threshold=0.5)


SOUND = twins.Sound(
    _moved,
    f"{twins.BERT_QUERY}.mask_scores",
    {f"{twins.BERT_QUERY}.weight_mask": torch.ones(32, 32)},
    (f"{twins.BERT_QUERY}.weight has no mask_scores",),
)
"""What `test_hostile_twins.py` makes twins of."""
