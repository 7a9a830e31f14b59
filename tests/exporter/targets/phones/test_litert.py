"""Target litert: files run in LiteRT's own runtime. Converting needs an environment of its own, see `make litert`."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest

from headway.bundle import Bundle
from headway.errors import TargetError
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.targets import base
from headway.exporter.targets.phones import litert
from headway.exporter.targets.phones.torch_export import check_quantization

from tests.support.litert import needed


@needed
def test_a_bundle_gives_the_outputs_of_the_onnx_bundle(sentence_bundle: Exported, tmp_path: Path) -> None:
    source = sentence_bundle.path.parent / "sentence"
    done = export(Recipe(source=str(source), target="litert"), tmp_path / "bundle")
    assert done.parity.ok
    record = done.manifest.engine
    assert record is not None and record["lengths"][-1] == 64 and record["operators"]["FULLY_CONNECTED"] == 12
    assert {"operator": "EMBEDDING_LOOKUP", "count": 2} in record["not_delegated"]
    assert all(x["operator"] != "FULLY_CONNECTED" for x in record["not_delegated"])
    bundle, onnx = Bundle.open(tmp_path / "bundle"), Bundle.open(sentence_bundle.path)
    texts = ["the model", "a large train of small words runs with the price of bread in rain"]
    for name, wanted in onnx(texts).items():
        assert np.abs(bundle(texts)[name] - wanted).max() < 1e-4


def test_what_delegates_left_is_what_is_not_between_their_ends() -> None:
    """Tensors 0 and 1 are inputs; a delegate computes the matmul and the sum, and a second one the softmax."""
    operators = [
        {"index": 0, "op_name": "EMBEDDING_LOOKUP", "inputs": [0], "outputs": [2]},
        {"index": 1, "op_name": "CAST", "inputs": [1], "outputs": [3]},
        {"index": 2, "op_name": "FULLY_CONNECTED", "inputs": [2, 9], "outputs": [4]},
        {"index": 3, "op_name": "ADD", "inputs": [4, 3], "outputs": [5]},
        {"index": 4, "op_name": "CAST", "inputs": [5], "outputs": [6]},
        {"index": 5, "op_name": "SOFTMAX", "inputs": [6], "outputs": [7]},
        {"index": 6, "op_name": "DELEGATE", "inputs": [2, 3, 9], "outputs": [5]},
        {"index": 7, "op_name": "DELEGATE", "inputs": [6], "outputs": [7]},
    ]
    assert litert.find_undelegated(operators) == {"EMBEDDING_LOOKUP": 1, "CAST": 2}
    assert litert.find_undelegated(operators[:6]) == {o["op_name"]: 1 for o in operators[:6]} | {"CAST": 2}


def test_no_text_is_padded_to_more_than_twice_its_length() -> None:
    text = SimpleNamespace(lengths=np.array([9] * 60 + [30] * 39 + [70]), longest=500)
    assert litert.bucket_lengths(text) == [16, 32, 64, 128, 256, 500]  # type: ignore[arg-type]


def test_what_cannot_work_is_refused(one_layer: ir.Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="pads every text"):
        litert.LiteRtTarget().options(regroup=False)
    assert check_quantization(one_layer, "litert", "LiteRT") == {"attention": 1}
    monkeypatch.delenv(litert.PYTHON, raising=False)
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    with pytest.raises(TargetError, match=r"pip install 'headway\[litert\]'"):
        export(Recipe(source=str(tmp_path), target="litert"), tmp_path / "bundle")
    monkeypatch.setattr(base, "find_spec", lambda name: name == "ai_edge_litert" or None)
    with pytest.raises(TargetError, match=r"environment of its own.*headway\[litert-export\].*HEADWAY_LITERT_PYTHON"):
        export(Recipe(source=str(tmp_path), target="litert"), tmp_path / "bundle")
    assert json.dumps(litert.SPEC.name) == '"litert"'
