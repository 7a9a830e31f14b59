"""Sources that are quantized already keep their scales."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import HeadwayWarning, SourceError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe, make_recipe

from tests.support import models
from tests.support.onnx_files import torchscript_file
from tests.support.own_scales import quantized_file, rounded_by_torch
from tests.support.tool_forms import dynamic, form_of


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.make_model(
        tmp_path_factory.mktemp("classifier"), "bert", "text-classification", hidden_size=64, num_hidden_layers=3
    )


@pytest.mark.parametrize(
    "operators", [["MatMul"], ["MatMul", "Gather", "Add", "Softmax", "LayerNormalization", "Gemm"]]
)
def test_a_file_with_its_own_scales_keeps_them(operators: list[str], tmp_path: Path) -> None:
    path = quantized_file(tmp_path / "source", operators)
    theirs = {str(v.name): v.const_value.numpy() for v in ir.load(path).graph.initializers.values() if v.const_value}
    done = export(Recipe(source=str(path)), tmp_path / "out")
    assert done.parity.dtype == "int8" and done.manifest.lowering["static_int8"] == 12
    ours = ir.load(done.path / "model.onnx").graph.initializers
    scale = ours["model.bert.encoder.layer.1.output.dense.weight_scale"].const_value
    assert scale is not None
    known = [a for n, a in theirs.items() if a.shape == scale.numpy().shape and n.endswith("_scale")]
    assert any(np.array_equal(scale.numpy(), a) for a in known)


@pytest.mark.parametrize("seen_text", [True, False])
def test_a_model_trained_with_rounding_keeps_its_scales(
    classifier: Path, seen_text: bool, tmp_path: Path, monkeypatch
) -> None:
    factory = tmp_path / "made_here.py"
    factory.write_text(
        "from pathlib import Path\nfrom tests.support.own_scales import rounded_by_torch\n"
        f"def build():\n    return rounded_by_torch(Path({str(classifier)!r}), {seen_text})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "made_here", raising=False)
    recipe = Recipe(source="made_here:build", task="text-classification")
    if not seen_text:
        with pytest.raises(SourceError, match=r"layer\.0.*has no scale yet"):
            export(recipe, tmp_path / "out")
        return
    done = export(recipe, tmp_path / "out")
    assert done.manifest.lowering["static_int8"] == 18  # six in each of three layers, of which one is traced
    assert done.manifest.source["form"] == [
        "torch's fake quantization: 18 weights rounded to the integers of their own scales; activations are rounded in 18 places"
    ]
    # A value half-way between two steps may go either way; scales are the learned ones to the bit.
    assert done.parity.outputs[0].max_abs < 5e-3
    ours = ir.load(done.path / "model.onnx").graph.initializers
    known = {v.const_value.numpy().tobytes() for v in ours.values() if v.const_value is not None}
    learned = [
        m.scale for n, m in rounded_by_torch(classifier)[0].named_modules() if n.endswith((".weights", ".values"))
    ]
    assert len(learned) == 36
    assert all(scale.numpy().tobytes() in known for scale in learned)


def test_passes_change_the_floats_that_integers_stand_for(tmp_path: Path, text: Path) -> None:
    plain = torchscript_file(tmp_path / "plain", "bert", 17, "eager")
    passes = [{"kind": "fit", "flops": 0.7}]
    path = form_of(plain, tmp_path / "dynamic", dynamic())
    recipe = make_recipe("test", source=str(path), data=text, passes=passes, max_drop=100)
    with pytest.warns(
        HeadwayWarning, match="17 weights and embeddings are integers, and passes change the float32 numbers"
    ):
        done = export(recipe, tmp_path / "out")
    assert done.parity.ok and done.parity.dtype == "float32"
