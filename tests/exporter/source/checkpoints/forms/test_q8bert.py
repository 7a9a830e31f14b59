"""Q8BERT's thresholds and integers, written after the layout of nlp-architect's quantized layers."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from headway.errors import UsageError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.source import open_source
from headway.runners.ort import OrtRunner

from tests.support import integer_checkpoints as integers
from tests.support.integer_checkpoints import QUERY
from tests.support.models import make_model

SETTINGS = {"mode": "ema", "weight_bits": 8, "activation_bits": 8, "start_step": 0, "ema_decay": 0.9999}
IDS = torch.tensor([[1, 5, 9, 12, 2], [1, 7, 2, 0, 0]])
EMBEDDING = "embeddings.word_embeddings"


def rounded(x: torch.Tensor, factor: torch.Tensor | float) -> torch.Tensor:
    """Round as that method does: `factor` is 127 divided by the largest magnitude."""
    return (x * factor).round().clamp(-127, 127) / factor


def make(directory: Path, *, in_8bit: bool, mode: str = "ema") -> Callable[[], torch.Tensor]:
    """Write a model whose linear layers in blocks, and whose word embeddings, are quantized; return its own forward."""
    make_model(directory, num_hidden_layers=1)
    model = transformers.BertModel.from_pretrained(directory).eval()
    layers = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n.startswith("encoder")}
    seen: dict[str, torch.Tensor] = {}
    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, x, name=name: seen.update({name: x[0].abs().max()}))
    feeds = {"input_ids": IDS, "attention_mask": (IDS != 0).long()}
    with torch.no_grad():
        model(**feeds)
    state = dict(model.state_dict())
    for name, layer in {**layers, EMBEDDING: model.get_submodule(EMBEDDING)}.items():
        weight = layer.weight.detach()
        factor = 127 / weight.abs().max()
        with torch.no_grad():
            layer.weight.copy_(rounded(weight, factor))
        if in_8bit:
            state |= {
                f"{name}.quantized_weight": (weight * factor).round().to(torch.int8),
                f"{name}._weight_scale": factor,
            }
            del state[f"{name}.weight"]
        else:
            state |= {f"{name}._step": torch.ones(1), f"{name}.weight": weight}
        if name == EMBEDDING:
            continue
        threshold = seen[name].clone() if mode == "ema" else torch.zeros(())
        state |= {f"{name}.input_thresh": threshold[None], f"{name}.output_thresh": torch.ones(1)}
        if mode == "ema":
            both = factor * 127 / threshold
            if in_8bit:
                state |= {
                    f"{name}._quantized_bias": (layer.bias.detach() * both).round().int(),
                    f"{name}.bias_scale": both,
                }
                del state[f"{name}.bias"]
            with torch.no_grad():
                layer.bias.copy_((layer.bias * both).round() / both)
            layer.register_forward_pre_hook(lambda _, x, t=threshold: (rounded(x[0], 127 / t),))
    integers.save(directory, state)
    integers.configure(directory, SETTINGS | {"mode": mode})

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return model(**feeds).last_hidden_state

    return forward


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("q8bert")
    make(directory, in_8bit=True)
    return directory


@pytest.mark.parametrize("in_8bit", [True, False])
def test_stored_thresholds_round_the_inputs_of_the_artifact_too(in_8bit: bool, tmp_path: Path) -> None:
    forward = make(tmp_path / "m", in_8bit=in_8bit)
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
    forward = make(tmp_path / "m", in_8bit=True, mode="dynamic")
    made = export(Recipe(source=str(tmp_path / "m")), tmp_path / "b")
    assert made.parity.dtype == "float32"
    assert "activations are computed in floats, which the method rounds by the range of each batch" in str(
        made.manifest.source
    )
    runner = OrtRunner(tmp_path / "b" / "model.onnx", made.manifest.session_options)
    feeds = {"input_ids": IDS, "attention_mask": (IDS != 0).long(), "token_type_ids": torch.zeros_like(IDS)}
    got = runner.run({n: t.numpy() for n, t in feeds.items()})["last_hidden_state"]
    assert np.abs(got - forward().numpy())[IDS.numpy() != 0].max() < 1e-4


def test_passes_and_targets_without_such_arithmetic_are_refused(stored: Path, tmp_path: Path) -> None:
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
