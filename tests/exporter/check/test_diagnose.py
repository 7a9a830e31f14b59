"""The first module that differs."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from headway.errors import GateError
from headway.exporter import export as flow
from headway.exporter.check import diagnose as diagnosis
from headway.exporter.check.diagnose import run_inside
from headway.exporter.check.parity import Case, OutputParity, Parity, first_divergence
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.passes.cuts import set_array
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.targets.ort.target import OrtTarget
from headway.exporter.targets.tensorrt.layer_names import module_values

from tests.support import hand_made
from tests.support.onnx_files import torchscript_file
from tests.support.rounded import needs_kernels
from tests.support.typed_graphs import batch, big, lowered


def test_the_first_module_that_differs_is_found(canonical) -> None:
    model, typed = canonical("bert"), canonical("bert")
    big(model), big(typed)
    feeds = batch(model)
    lowered(typed, "fp16", feeds, rules=False)
    names = list(module_values(typed.graph))
    values = [run_inside(m, feeds, names) for m in (model, typed)]
    assert first_divergence(names, *values, feeds["attention_mask"], 0.1) == "encoder.layer.0.output.dense"


@needs_kernels
def test_a_graph_with_headway_s_kernels_is_run_with_them(canonical) -> None:
    """Its values are those of packed tokens, which are compared where their shape is that of the source's."""
    model, lowered_model = canonical("bert"), canonical("bert")
    feeds = batch(model)
    OrtTarget(kernels="custom").lower(lowered_model, read_anatomy(lowered_model))
    names = [str(n.outputs[0].name) for n in lowered_model.graph]
    values = run_inside(lowered_model, feeds, names)
    assert values and any(n.domain == "headway" for n in lowered_model.graph)
    assert first_divergence(names, run_inside(model, feeds, names), values, feeds["attention_mask"], 1e-4) is None


@pytest.mark.parametrize(
    ("inside", "breaks", "says"),
    [
        ([1.0, 2.0], True, "layer (in the lowering)"),
        ([1.0, 3.0], True, "layer (in the capture)"),
        ([1.0, 2.0], False, None),
    ],
)
def test_a_module_is_named_with_the_step_that_broke_it(
    inside: list[float], breaks: bool, says: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "w"], ["layer"]),
    ]
    model = hand_made.load(nodes, {"w": np.array([[1.0, 2.0]], np.float32)}, ["layer"])
    canonical = SimpleNamespace(model=model, sources={"layer": "layer"})
    reference = SimpleNamespace(inside=lambda *_: {"layer": np.array([inside], np.float32)})
    captured = SimpleNamespace(source=SimpleNamespace(kind="huggingface"), reference=reference)
    monkeypatch.setattr(diagnosis, "capture", lambda _: captured)
    monkeypatch.setattr(diagnosis, "canonical_of", lambda _: canonical)

    def lower(*_: object) -> None:
        if breaks:
            set_array(model.graph.initializers["w"], np.array([[1.0, 9.0]], np.float32))

    target: Any = SimpleNamespace(lower=lower)
    given: Any = None
    case = Case("a case", dict.fromkeys(("input_ids", "attention_mask"), np.ones((1, 2), np.int64)))
    parity = Parity([OutputParity("y", 1.0, 1.0, 0.5, 0.5, 2.0, 1e-4, "a case")], ["a case"])
    assert diagnosis.diagnose(given, target, given, [case], parity) == says


def test_a_file_whose_tensors_lost_their_names_is_refused_without_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = torchscript_file(tmp_path / "source", "bert", 17, "eager")
    graph = ir.load(path)
    for number, value in enumerate(list(graph.graph.initializers.values())):
        value.name = f"w{number}"
    for node in graph.graph:
        node.name = None
    ir.save(graph, path)
    asked: list[str | None] = []

    def compare(*arguments: Any, **options: Any) -> Parity:
        parity = compared(*arguments, **options)
        parity.outputs[0] = replace(parity.outputs[0], max_abs=1.0, worst_case="a case")
        return parity

    def diagnose(*arguments: Any) -> str | None:
        asked.append(diagnosis.diagnose(*arguments))
        return asked[-1]

    compared = flow.compare
    monkeypatch.setattr(flow, "compare", compare)
    monkeypatch.setattr(flow, "diagnose", diagnose)
    with pytest.raises(GateError) as refused:
        flow.export(Recipe(source=str(path)), tmp_path / "out")
    assert asked == [None] and not (tmp_path / "out").exists()
    sentence = r"output 'logits' differs from the source by 1 \(allowed [0-9.e-]+\) on 'a case'\. Nothing was written"
    assert re.fullmatch(sentence, str(refused.value))
