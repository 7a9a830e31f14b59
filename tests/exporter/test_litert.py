"""Target litert: files run in LiteRT's own runtime. Converting needs an environment of its own, see `make litert`."""

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest

from headway.bundle import Bundle
from headway.errors import TargetError
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.targets.phones import litert
from headway.exporter.targets.phones.torch_export import check_rounding

import models
from variants import answers, apart, canonical, feeds, pruned, rounded

PYTHON = Path(__file__).parents[2] / ".cache" / "litert" / "bin" / "python"


@pytest.fixture(autouse=True)
def converter(monkeypatch: pytest.MonkeyPatch) -> None:
    if litert.converter() is None and PYTHON.is_file():
        monkeypatch.setenv(litert.PYTHON, str(PYTHON))


needed = pytest.mark.skipif(
    find_spec("ai_edge_litert") is None or (litert.converter() is None and not PYTHON.is_file()),
    reason="needs ai-edge-litert (extra litert) and the converter's environment (make litert)",
)


@pytest.fixture(scope="module")
def one_layer(tmp_path_factory: pytest.TempPathFactory) -> ir.Model:
    made = models.make_model(
        tmp_path_factory.mktemp("one"), "bert", "text-classification", num_hidden_layers=1, intermediate_size=2048
    )
    return canonical(made)


@needed
def test_a_bundle_answers_as_the_onnx_bundle(sentence_bundle: Exported, tmp_path: Path) -> None:
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


@needed
def test_whole_numbers_arrive_as_they_are_and_signatures_share_them(one_layer: ir.Model, tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    model, matrices = rounded(pruned(one_layer))
    litert.build(model, tmp_path, [8, 24], pad_id=0)
    content = (tmp_path / "model.tflite").read_bytes()
    for matrix in matrices.values():
        assert content.count(np.ascontiguousarray(matrix.q.T).tobytes()) == 1
        assert matrix.scale.tobytes() in content
    inputs = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner("tokens_8").get_input_details()
    assert {d["dtype"] for d in inputs.values()} == {np.int32}
    runner = litert.LiteRtTarget().open(tmp_path, {})
    for length in (3, 21):  # one in each signature
        given = feeds(3, length)
        assert apart(answers(model, given), runner.run(given), given) < 1e-3
    with pytest.raises(TargetError, match="25 tokens is longer than the 24"):
        runner.run(feeds(1, 25))


@needed
def test_two_lengths_cost_no_second_copy_of_the_weights(one_layer: ir.Model, tmp_path: Path) -> None:
    sizes = []
    for lengths in ([16], [8, 16]):
        folder = tmp_path / str(len(lengths))
        folder.mkdir()
        litert.build(one_layer, folder, lengths, pad_id=0)
        sizes.append((folder / "model.tflite").stat().st_size)
    weights = sum(v.const_value.nbytes for v in one_layer.graph.initializers.values() if v.const_value is not None)
    assert weights < sizes[0] and sizes[1] - sizes[0] < weights / 8


@needed
def test_a_converter_that_fails_says_why(one_layer: ir.Model, tmp_path: Path) -> None:
    strange = one_layer.clone()
    gelu = next(n for n in strange.graph if n.op_type == "Gelu")
    gelu.op_type = "Mish"
    with pytest.raises(TargetError, match=f"{gelu.name}.*Mish has no counterpart.*--target ort"):
        litert.build(strange, tmp_path, [8], pad_id=0)
    assert not list(tmp_path.iterdir())


def test_what_delegates_left_is_what_is_not_between_their_ends() -> None:
    """Tensors 0, 1 are inputs; a delegate does the product and the sum, and a second one the softmax."""
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
    assert litert.left_over(operators) == {"EMBEDDING_LOOKUP": 1, "CAST": 2}
    assert litert.left_over(operators[:6]) == {o["op_name"]: 1 for o in operators[:6]} | {"CAST": 2}


def test_no_text_is_padded_to_more_than_twice_its_length() -> None:
    text = SimpleNamespace(lengths=np.array([9] * 60 + [30] * 39 + [70]), longest=500)
    assert litert.bucket_lengths(text) == [16, 32, 64, 128, 256, 500]  # type: ignore[arg-type]


def test_what_cannot_work_is_refused(one_layer: ir.Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="pads every text"):
        litert.LiteRtTarget().options(regroup=False)
    assert check_rounding(one_layer, "litert", "LiteRT") == {"attention": 1}
    monkeypatch.delenv(litert.PYTHON, raising=False)
    monkeypatch.setattr(litert, "find_spec", lambda name: None)
    with pytest.raises(TargetError, match=r"pip install 'headway\[litert\]'"):
        export(Recipe(source=str(tmp_path), target="litert"), tmp_path / "bundle")
    monkeypatch.setattr(litert, "find_spec", lambda name: name == "ai_edge_litert" or None)
    with pytest.raises(TargetError, match=r"environment of its own.*headway\[litert-export\].*HEADWAY_LITERT_PYTHON"):
        export(Recipe(source=str(tmp_path), target="litert"), tmp_path / "bundle")
    assert json.dumps(litert.SPEC.name) == '"litert"'
