"""Files of the TorchScript exporter: old opsets, attention in separate operators."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
import torch

from headway.bundle import Bundle
from headway.exporter.capture.onnx_file import OnnxReference
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe, make_recipe
from headway.exporter.source.source import open_source
from headway.exporter.verification import verify_bundle

from tests.support.onnx_files import dynamo_file, pooled_file, torchscript_file, with_automatic_names

QUICK = [
    ("bert", 14, "sdpa"),
    ("roberta", 14, "eager"),
    ("roberta", 17, "sdpa"),
    ("bert", 17, "eager"),
    ("albert", 20, "sdpa"),
    ("bert", 20, "eager"),
]
"""Old, middle and new opsets with both kinds of attention. Other combinations are slow."""


def combinations() -> Iterator[Any]:
    for chosen in itertools.product(["bert", "roberta", "albert"], range(14, 21), ["sdpa", "eager"]):
        yield pytest.param(*chosen, marks=() if chosen in QUICK else pytest.mark.slow)


@pytest.mark.parametrize(("family", "opset", "attention"), combinations())
def test_files_of_the_torchscript_exporter(family: str, opset: int, attention: str, tmp_path: Path) -> None:
    path = torchscript_file(tmp_path / "source", family, opset, attention)
    assert ir.load(path).opset_imports[""] == opset
    done = export(Recipe(source=str(path)), tmp_path / "out")
    blocks = len(done.manifest.anatomy["blocks"])
    assert done.manifest.lowering == {"attention": blocks, "gelu": blocks}
    assert max(o.max_abs for o in done.parity.outputs) < 1e-4
    weights = (done.path / "model.onnx.data").stat().st_size
    assert weights <= 1.1 * (tmp_path / "source" / "model.safetensors").stat().st_size


def test_a_file_of_the_exporter_that_is_the_default_today(tmp_path: Path) -> None:
    """Attention behind `IsNaN` and `Where`, keys transposed between two Reshapes, weights under numbers, and external data."""
    path = dynamo_file(tmp_path / "model[v1]")
    kinds = [n.op_type for n in ir.load(path).graph]
    assert {"IsNaN", "Softmax"} <= set(kinds) and "Attention" not in kinds
    assert (tmp_path / "model[v1]" / "model.onnx.data").is_file()
    done = export(Recipe(source=str(path)), tmp_path / "out")
    assert done.manifest.lowering == {"attention": 1, "gelu": 1}
    assert max(o.max_abs for o in done.parity.outputs) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("opset", range(18, 24))
def test_files_of_the_exporter_that_is_the_default_today(
    opset: int, family: str, attention: str, tmp_path: Path
) -> None:
    path = dynamo_file(tmp_path / "source", family, attention, opset=opset)
    assert ir.load(path).opset_imports[""] == opset
    done = export(Recipe(source=str(path)), tmp_path / "out")
    blocks = len(done.manifest.anatomy["blocks"])
    assert blocks and done.manifest.lowering == {"attention": blocks, "gelu": blocks}
    assert max(o.max_abs for o in done.parity.outputs) < 1e-5


def test_transposed_keys_are_known_by_running_where_inner_axes_have_no_names(tmp_path: Path) -> None:
    path = with_automatic_names(dynamo_file(tmp_path / "model", opset=17))
    done = export(Recipe(source=str(path)), tmp_path / "out")
    assert done.manifest.lowering == {"attention": 1, "gelu": 1}
    assert max(o.max_abs for o in done.parity.outputs) < 1e-5


def test_a_file_that_takes_int32(tmp_path: Path) -> None:
    path = torchscript_file(tmp_path / "source", "bert", 17, "sdpa", torch.int32)
    done = export(Recipe(source=str(path)), tmp_path / "out")
    assert {i.dtype for i in done.manifest.inputs} == {"int64"}
    assert max(o.max_abs for o in done.parity.outputs) < 1e-5


def test_a_file_whose_axes_have_names_that_say_nothing(tmp_path: Path) -> None:
    """Outputs per token are known by running: texts of several lengths, verified again, give what the file gives."""
    path = torchscript_file(tmp_path / "source", "bert", 17, "sdpa", task="token-classification")
    done = export(Recipe(source=str(with_automatic_names(path))), tmp_path / "out")
    assert [o.shape for o in done.manifest.outputs] == [["batch", "sequence", 2]]
    assert done.manifest.lowering == {"attention": 2, "gelu": 2}
    texts = ["rain", "the price of bread"]
    answers = Bundle.open(done.path)(texts)["logits"]
    wanted = OnnxReference(open_source(str(path))).from_text(texts).outputs["logits"]
    assert answers.shape == wanted.shape and abs(answers - wanted).max() < 1e-5
    assert verify_bundle(done.path, str(path), None).ok


def test_outputs_per_text_beside_outputs_per_token(tmp_path: Path) -> None:
    """As sentence-transformers' features are traced: inputs handed through, and vectors of tokens and of texts."""
    path = torchscript_file(tmp_path / "source", "bert", 17, "sdpa", task="token-classification")
    model = onnx.load(path)
    model.graph.node.extend(
        [
            onnx.helper.make_node("ReduceMax", ["logits"], ["12"], axes=[1], keepdims=0),
            onnx.helper.make_node("Identity", ["input_ids"], ["463"]),
        ]
    )
    model.graph.output.extend(
        [
            onnx.helper.make_tensor_value_info("12", onnx.TensorProto.FLOAT, ["ReduceMax12_dim_0", "sequence_length"]),
            onnx.helper.make_tensor_value_info("463", onnx.TensorProto.INT64, ["batch_size", "Identity463_dim_1"]),
        ]
    )
    onnx.save(model, path)
    done = export(Recipe(source=str(path)), tmp_path / "out")
    shapes = {o.name: o.shape for o in done.manifest.outputs}
    assert shapes == {"logits": ["batch", "sequence", 2], "12": ["batch", 2], "463": ["batch", "sequence"]}
    answers = Bundle.open(done.path)(["rain", "the price of bread"])
    assert answers["12"].shape == (2, 2) and (answers["463"][0, 3:] == 0).all()


def test_a_traced_mean_of_tokens_is_compressed(tmp_path: Path, text: Path) -> None:
    """Sizes stay in the graph as `ConstantOfShape`, `Equal` and `Where`; gradients go through them."""
    path = pooled_file(tmp_path / "source")
    names = [d.dim_param for o in onnx.load(path).graph.output for d in o.type.tensor_type.shape.dim]
    assert any("_dim_" in name for name in names)
    passes = [{"kind": "fit", "flops": 0.7, "rounds": 1}]
    recipe = make_recipe("test", source=str(path), data=text, passes=passes, max_drop=100)
    done = export(recipe, tmp_path / "out")
    assert [o.shape for o in done.manifest.outputs] == [["batch", "sequence", 32], ["batch", 32]]
    assert done.parity.ok and done.artifact_bytes < done.source_bytes
