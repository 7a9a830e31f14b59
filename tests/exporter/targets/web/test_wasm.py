"""Numbers of a web bundle in onnxruntime-web's WebAssembly."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from headway import Bundle
from headway.errors import TargetError
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.targets.web import wasm

from tests.support.node import FEW, needs_node
from tests.support.trimmed import corpus_lines


@pytest.mark.parametrize(
    ("quantization", "artifact", "dtype"),
    [
        ({"kind": "quantize"}, "onnx/model_quantized.onnx", "q8"),
        pytest.param(
            {"kind": "quantize", "weights": "int4", "block": 16},
            "onnx/model_q4.onnx",
            "q4",
            marks=pytest.mark.slow,
        ),
        pytest.param({"kind": "float16"}, "onnx/model_fp16.onnx", "fp16", marks=pytest.mark.slow),
    ],
)
@needs_node
def test_passes_choose_the_file_name_and_the_numbers_hold_in_wasm(
    bert: Path, tmp_path: Path, quantization: dict[str, Any], artifact: str, dtype: str
) -> None:
    data = tmp_path / "text.txt"
    data.write_text("\n".join(corpus_lines(12)))
    recipe = make_recipe("test", source=str(bert), target="web", data=data, passes=[quantization], max_drop=100)
    exported = export(recipe, tmp_path / "bundle")
    assert exported.manifest.artifact == artifact
    assert json.loads((exported.path / "config.json").read_text())["transformers.js_config"]["dtype"] == dtype
    bundle = Bundle.open(exported.path)
    feeds = bundle.encoder(["a small model", "the price of bread and rain"])
    runner = wasm.WasmRunner(exported.path / artifact, bundle.manifest.session_options)
    for name, wanted in bundle.runner.run(feeds).items():
        real = feeds["attention_mask"].astype(bool)
        np.testing.assert_allclose(runner.run(feeds)[name][real], wanted[real], atol=1e-4 if dtype != "q8" else 5e-2)
    runner.close()


@needs_node
def test_the_export_was_compared_in_wasm_and_is_recorded(sentence: Exported) -> None:
    record = sentence.manifest.engine
    assert record is not None
    assert record["checked"] == "onnxruntime-web in Node"
    assert record["onnxruntime-web"] == "1.30.0"
    assert record["tokenizer"]["lines"] == FEW
    assert record["tokenizer"]["page"] == "equal on all"
    assert "onnxruntime-web in Node" in (sentence.path / "README.md").read_text()


@needs_node
def test_a_wrong_model_is_found_out_in_wasm(sentence: Exported, tmp_path: Path) -> None:
    model = onnx.load(sentence.path / "onnx/model.onnx")
    weight = next(t for t in model.graph.initializer if t.name.endswith("query.weight"))
    array = onnx.numpy_helper.to_array(weight).copy()
    array[0] += 1
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    onnx.save(model, tmp_path / "model.onnx")
    bundle = Bundle.open(sentence.path)
    feeds = bundle.encoder(["a small model"])
    name = "sentence_embedding"
    right, wrong = (
        wasm.WasmRunner(p / "model.onnx", bundle.manifest.session_options).run(feeds)[name]
        for p in (sentence.path / "onnx", tmp_path)
    )
    np.testing.assert_allclose(right, bundle.runner.run(feeds)[name], atol=1e-6)
    assert np.abs(wrong - right).max() > 1e-4


@needs_node
def test_an_operator_that_wasm_lacks_is_named_with_its_node(sentence: Exported, tmp_path: Path) -> None:
    model = onnx.load(sentence.path / "onnx/model.onnx")
    node = next(n for n in model.graph.node if n.op_type == "LayerNormalization")
    node.op_type, node.domain, node.name = "Unheard", "com.microsoft", "encoder.layer.0.norm"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(TargetError, match=r"onnxruntime-web 1\.30\.0 cannot run it: .*Unheard"):
        wasm.WasmRunner(tmp_path / "model.onnx", {})
