"""Q8BERT's thresholds and integers, written after the layout of nlp-architect's quantized layers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from headway.errors import UsageError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.source import open_source
from headway.runners.ort import OrtRunner

from tests.checkpoints.q8bert import IDS, SETTINGS, make_q8bert
from tests.support import integer_checkpoints as integers
from tests.support import twins
from tests.support.integer_checkpoints import QUERY


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("q8bert")
    make_q8bert(directory, in_8bit=True)
    return directory


@pytest.mark.parametrize("in_8bit", [True, False])
def test_stored_thresholds_round_the_inputs_of_the_artifact_too(in_8bit: bool, tmp_path: Path) -> None:
    forward = make_q8bert(tmp_path / "m", in_8bit=in_8bit)
    source = open_source(str(tmp_path / "m"))
    assert source.checkpoint is not None and len(source.checkpoint.rounded_inputs) == 6
    made = export(Recipe(source=str(tmp_path / "m")), tmp_path / "b")
    assert "inputs of 6 linear layers are rounded by their stored thresholds" in made.manifest.source["form"][0]
    assert "integers of 7 of 7 quantized weights" in made.manifest.source["form"][1]
    assert made.manifest.lowering["static_int8"] == 6
    feeds = {"input_ids": IDS, "attention_mask": (IDS != 0).long(), "token_type_ids": torch.zeros_like(IDS)}
    runner = OrtRunner(tmp_path / "b" / "model.onnx", made.manifest.session_options)
    got = runner.run({n: t.numpy() for n, t in feeds.items()})["last_hidden_state"]
    assert np.abs(got - forward().numpy())[IDS.numpy() != 0].max() < 0.02  # of sums that round to a neighboring integer


def test_ranges_of_each_batch_leave_activations_float(tmp_path: Path) -> None:
    forward = make_q8bert(tmp_path / "m", in_8bit=True, mode="dynamic")
    made = export(Recipe(source=str(tmp_path / "m")), tmp_path / "b")
    assert made.parity.dtype == "float32"
    assert "activations are computed in floats, which the method rounds by the range of each batch" in str(
        made.manifest.source
    )
    runner = OrtRunner(tmp_path / "b" / "model.onnx", made.manifest.session_options)
    feeds = {"input_ids": IDS, "attention_mask": (IDS != 0).long(), "token_type_ids": torch.zeros_like(IDS)}
    got = runner.run({n: t.numpy() for n, t in feeds.items()})["last_hidden_state"]
    assert np.abs(got - forward().numpy())[IDS.numpy() != 0].max() < 1e-4


def test_targets_without_such_arithmetic_are_refused(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="target executorch has no arithmetic for activations that a checkpoint rounds"
    ):
        export(Recipe(source=str(stored), target="executorch"), tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({f"{QUERY}._weight_scale": None}, f"{QUERY}.quantized_weight has no {QUERY}._weight_scale beside it"),
        ({f"{QUERY}._weight_scale": torch.ones(32)}, "_weight_scale is [32], one number is expected"),
        ({f"{QUERY}.quantized_weight": torch.zeros(32).char()}, "two axes are expected"),
        ({f"{QUERY}.input_thresh": torch.zeros(1)}, "input_thresh is 0: it has never observed an activation"),
        ({f"{QUERY}.input_thresh": torch.zeros(4)}, "input_thresh is [4], one number is expected"),
        ({f"{QUERY}.bias_scale": None}, f"{QUERY}._quantized_bias has no {QUERY}.bias_scale beside it"),
        ({f"{QUERY}._quantized_bias": torch.zeros(3).int()}, f"{QUERY}._quantized_bias is [3]"),
        ({f"{QUERY}.bias": torch.zeros(32)}, f"{QUERY}.bias is saved both as integers and as floats"),
        ({f"{QUERY}.weight": torch.zeros(32, 32)}, "saved both quantized and as floats"),
    ],
)
def test_damaged_tensors_are_refused_by_name(
    change: dict[str, torch.Tensor | None], said: str, stored: Path, tmp_path: Path
) -> None:
    integers.changed(stored, tmp_path, change)
    assert said in integers.refusal(tmp_path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"mode": "none"}, "mode = 'none'"),
        ({"activation_bits": 4}, "activation_bits = 4"),
        ({"weight_bits": 16}, "weight_bits = 16"),
        ({"rounding": "stochastic"}, "rounding = 'stochastic', which nothing here follows"),
    ],
)
def test_settings_that_nothing_follows_are_refused(
    more: dict[str, object], said: str, stored: Path, tmp_path: Path
) -> None:
    integers.changed(stored, tmp_path, {})
    integers.configure(tmp_path, SETTINGS | more)
    assert said in integers.refusal(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["quantization_config"]


SOUND = twins.Sound(lambda f: make_q8bert(f, in_8bit=True), f"{twins.QUERY}._weight_scale", twins.PLAIN)
"""What `test_hostile_twins.py` makes twins of."""
