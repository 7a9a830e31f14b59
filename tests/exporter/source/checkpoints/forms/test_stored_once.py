"""Projections that layers share are one tensor in the graph, however the file holds them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.checkpoints.shared_projections import SHARED, make_shared
from tests.support import checkpoints, twins


@pytest.mark.parametrize("once", [True, False])
def test_shared_projections_are_stored_once(once: bool, tmp_path: Path) -> None:
    model = make_shared(tmp_path, once=once)
    source, graph = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert source.sentences == (("8 tensors are stored under the name of one that they share",) if once else ())
    for name in SHARED:
        assert (
            len([n for n in graph.graph.initializers if n.endswith(f"{name}.weight") and "attention.output" not in n])
            == 1
        )


def test_notes_that_name_no_tensor_are_left_alone(tmp_path: Path) -> None:
    """What is missing then is named as ever."""
    model = checkpoints.base(tmp_path)
    state = {k: v.clone() for k, v in model.state_dict().items() if k != "encoder.layer.1.output.dense.weight"}
    save_file(state, tmp_path / "model.safetensors", {"format": "pt", "encoder.layer.1.output.dense.weight": "nowhere"})
    assert "encoder.layer.1.output.dense.weight" in checkpoints.refusal(tmp_path)


def test_a_note_of_another_size_is_refused(tmp_path: Path) -> None:
    model = checkpoints.base(tmp_path)
    name = "encoder.layer.1.output.dense.weight"
    state = {k: v.clone() for k, v in model.state_dict().items() if k != name}
    save_file(state, tmp_path / "model.safetensors", {"format": "pt", name: "pooler.dense.weight"})
    assert name in checkpoints.refusal(tmp_path)


SOUND = twins.Sound(
    lambda f: make_shared(f, once=True), "encoder.layer.0.attention.self.query.weight", {"a.weight": torch.ones(2)}
)
"""What `test_hostile_twins.py` makes twins of."""
