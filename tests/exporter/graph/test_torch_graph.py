"""The canonical graph in torch against its source, and what it refuses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from headway.errors import SourceError
from headway.exporter.capture.capture import capture
from headway.exporter.graph.canonical import canonicalize
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.source.source import open_source

from tests.support import models
from tests.support.supported import QUICK_TASK
from tests.support.variants import canonical

TASKS = ("fill-mask", "question-answering", "token-classification")


def pairs() -> Iterator[Any]:
    for family in models.FAMILIES:
        for task in TASKS:
            quick = task == QUICK_TASK[family] or (family, task) == ("bert", "fill-mask")
            yield pytest.param(family, task, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("family", "task"), pairs())
def test_every_family_computes_as_its_source(family: str, task: str, tmp_path: Path) -> None:
    captured = capture(open_source(str(models.make_model(tmp_path, family, task, **models.soonest(family)))))
    model = canonicalize(captured.model, longest=captured.source.positions).model
    ids = np.random.default_rng(0).integers(5, 290, (3, 9))
    mask = np.ones_like(ids)
    mask[1, 5:] = 0
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    expected = captured.reference.run(feeds)
    with torch.no_grad():
        results = TorchGraph(model)(feeds)
    for name, wanted in expected.items():
        assert np.abs(wanted - results[name].numpy())[mask.astype(bool)].max() < 1e-5


def test_pieces_give_what_the_whole_gives(bert: Path) -> None:
    graph = TorchGraph(canonical(bert))
    feeds = {"input_ids": np.arange(5, 13)[None], "attention_mask": np.ones((1, 8), np.int64)}
    feeds["token_type_ids"] = np.zeros_like(feeds["input_ids"])
    with torch.no_grad():
        complete = graph(feeds)
        env = graph.feeds(feeds)
        for start in range(0, len(graph.nodes), 7):
            end = min(start + 7, len(graph.nodes))
            env = graph.run(env, graph.crossing(graph.nodes[:end]), nodes=graph.nodes[start:end])
    for value in graph.outputs:
        assert torch.equal(env[value], complete[str(value.name)])


def one_node(kind: str, domain: str = "") -> ir.Model:
    x = ir.Value(name="x", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node(kind, [x], domain=domain, name="strange")
    imports = {"": 23, "own.domain": 2}
    return ir.Model(ir.Graph([x], node.outputs, nodes=[node], opset_imports=imports), ir_version=10)


@pytest.mark.parametrize(
    ("kind", "domain", "named"),
    [
        ("Det", "", "Det, ai.onnx opset 23"),
        ("Det", "ai.onnx", "Det, ai.onnx opset 23"),
        ("Erf", "own.domain", "Erf, own.domain opset 2"),
    ],
)
def test_an_unknown_operator_is_named(kind: str, domain: str, named: str) -> None:
    with pytest.raises(SourceError, match=rf"node 'strange' \({named}\): the operator has no counterpart in torch"):
        TorchGraph(one_node(kind, domain))


def test_what_torch_refuses_names_its_node_and_a_lack_of_memory_stays_one() -> None:
    graph = TorchGraph(one_node("Transpose"))
    graph.nodes[0].attributes["perm"] = ir.AttrInt64s("perm", [0, 1])
    with pytest.raises(SourceError, match=r"node 'strange' \(Transpose, ai.onnx opset 23\): torch.*headway export"):
        graph({"x": np.zeros(1, np.float32)})
    graph.nodes[0].attributes["perm"] = ir.AttrInt64s("perm", [0])

    def exhausted(*_: object) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    graph.compute = exhausted  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="can't allocate"):
        graph({"x": np.zeros(1, np.float32)})
