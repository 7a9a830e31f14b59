"""A wrapper's name is taken off all tensors, or off none."""

from pathlib import Path

from tests.support import checkpoints


def test_a_wrappers_name_is_taken_off(tmp_path: Path) -> None:
    model = checkpoints.base(tmp_path)
    checkpoints.save(tmp_path, {f"_orig_mod.{k}": v for k, v in model.state_dict().items()})
    source, _ = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert "'_orig_mod.'" in source.sentences[0]


def test_a_name_before_some_tensors_alone_is_refused(tmp_path: Path) -> None:
    state = checkpoints.base(tmp_path).state_dict()
    first = next(iter(state))
    checkpoints.save(tmp_path, {(f"module.{k}" if k == first else k): v for k, v in state.items()})
    assert first in checkpoints.refusal(tmp_path)
