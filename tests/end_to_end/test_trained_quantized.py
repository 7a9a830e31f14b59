"""Modules of torch.ao's quantization-aware training are exported: integers of weights as they are, activations in floats."""

import copy
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.ao.quantization as quantization
from torch.nn.utils import prune

from headway.errors import HeadwayWarning, SourceError
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.verification import verify_bundle

from tests.checkpoints import quantization_aware as aware
from tests.support import integer_checkpoints

QINT8 = {"dtype": torch.qint8, "qscheme": torch.per_tensor_symmetric}
FOUR_BITS = quantization.QConfig(
    activation=quantization.FakeQuantize.with_args(quant_min=0, quant_max=15, dtype=torch.quint8),
    weight=quantization.FakeQuantize.with_args(quant_min=-8, quant_max=7, **QINT8),
)
SIXTEEN_BITS = quantization.QConfig(
    activation=quantization.default_fake_quant,
    weight=quantization.FakeQuantize.with_args(
        quant_min=-32768, quant_max=32767, dtype=torch.qint32, qscheme=torch.per_tensor_symmetric
    ),
)
ELSEWHERE = "elsewhere than in front of matmuls of tokens by int8 weights"
OTHER_RANGE = "to a range that is not all of int8 or uint8"


class Inner(torch.nn.Module):
    def __init__(self, bert: Any):
        super().__init__()
        self.bert = bert

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.bert(input_ids=ids, attention_mask=mask).last_hidden_state


class Outer(torch.nn.Module):
    def __init__(self, bert: Any):
        super().__init__()
        self.inner = Inner(bert)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"last_hidden_state": self.inner(input_ids, attention_mask)}


@pytest.fixture
def made_here(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes `made_here:build` give copies of a module, and its directory."""

    def set_module(module: Any, directory: Path) -> str:
        here: Any = ModuleType("made_here")
        here.build = lambda: (copy.deepcopy(module), directory)
        monkeypatch.setitem(sys.modules, "made_here", here)
        return "made_here:build"

    return set_module


def exported(spec: str, out: Path) -> tuple[Exported, list[str]]:
    """Return what an export makes, and what it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = export(Recipe(source=spec, task="feature-extraction"), out)
    return done, [str(w.message) for w in caught if issubclass(w.category, HeadwayWarning)]


@pytest.mark.parametrize(
    ("qconfig", "left", "depth"),
    [
        pytest.param(aware.PER_CHANNEL, f"26 {OTHER_RANGE}, 1 {ELSEWHERE}", 0, id="fbgemm", marks=pytest.mark.slow),
        pytest.param(aware.PER_TENSOR, f"27 {ELSEWHERE}", 0, id="qnnpack", marks=pytest.mark.slow),
        pytest.param(
            aware.PER_CHANNEL, f"26 {OTHER_RANGE}, 1 {ELSEWHERE}", 2, id="fbgemm, wrapped", marks=pytest.mark.slow
        ),
        pytest.param(aware.PER_TENSOR, f"27 {ELSEWHERE}", 2, id="qnnpack, wrapped", marks=pytest.mark.slow),
        pytest.param(aware.NARROW, f"27 {ELSEWHERE}", 0, id="narrow weights", marks=pytest.mark.slow),
        pytest.param(FOUR_BITS, f"26 {OTHER_RANGE}, 1 {ELSEWHERE}", 0, id="4 bits", marks=pytest.mark.slow),
    ],
)
def test_weights_are_held_code_by_code_and_activations_left_out_are_said(
    qconfig: Any, left: str, depth: int, made_here: Any, tmp_path: Path
) -> None:
    bert = aware.prepare(tmp_path / "m", qconfig)
    bert.apply(quantization.disable_observer)
    spec = made_here(Outer(bert) if depth else bert, tmp_path / "m")
    done, said = exported(spec, tmp_path / "out")
    prefix = "inner.bert." if depth else ""
    sentence = (
        "torch's fake quantization: 19 weights rounded to the integers of their own scales; the roundings of activations in 27 places "
        f"are left out, and these are computed in floats: {left} (first: {prefix}embeddings.LayerNorm.activation_post_process)"
    )
    assert f"{spec}: {sentence}" in said and done.manifest.source["form"] == [sentence]
    assert done.parity.ok and done.parity.dtype == "float32" and done.manifest.lowering["weight_only"] == 18
    assert "on the module without the rounding of activations in 27 places; the module itself" in done.parity.reference
    for path, module in aware.rounders(bert).items():
        if not path.startswith("encoder"):
            continue
        fake = module.weight_fake_quant
        held, scale = integer_checkpoints.held(tmp_path / "out", f"{prefix}{path}")
        with torch.no_grad():
            codes = (fake(module.weight).double() / fake.scale.double().reshape(-1, 1)).round().int()
        assert (held == codes.numpy()).all(), path
        assert (np.broadcast_to(scale, (len(codes), 1)) == fake.scale.reshape(-1, 1).numpy()).all()


@pytest.mark.slow
def test_the_bundle_is_verified_by_the_module_without_what_is_left_out(made_here: Any, tmp_path: Path) -> None:
    """Observers that are still on do not move the scales while the module is compared."""
    spec = made_here(aware.prepare(tmp_path / "m", aware.PER_TENSOR), tmp_path / "m")
    exported(spec, tmp_path / "out")
    verdict = verify_bundle(tmp_path / "out", None, None, allow_code=True)
    assert verdict.ok and "without the rounding of activations in 27 places" in verdict.reference


@pytest.mark.slow
def test_weights_of_16_bits_are_held_as_floats_and_said(made_here: Any, tmp_path: Path) -> None:
    spec = made_here(aware.prepare(tmp_path / "m", SIXTEEN_BITS), tmp_path / "m")
    done, said = exported(spec, tmp_path / "out")
    assert done.parity.ok and "weight_only" not in done.manifest.lowering
    assert any(
        "0 weights rounded to the integers of their own scales, 19 held as floats" in sentence for sentence in said
    )


def test_weights_that_are_masked_while_the_model_runs_are_refused(made_here: Any, tmp_path: Path) -> None:
    bert = aware.prepare(tmp_path / "m")
    query = bert.encoder.layer[0].attention.self.query
    prune.l1_unstructured(query, "weight", 0.3)
    query.weight = query.weight.detach()  # which deepcopy takes; it is computed anew by the next run
    spec = made_here(bert, tmp_path / "m")
    name = r"encoder\.layer\.0\.attention\.self\.query\.weight_fake_quant"
    with pytest.raises(SourceError, match=rf"^made_here:build: {name}: .* weight that is computed anew"):
        export(Recipe(source=spec, task="feature-extraction"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
