"""Operators in the form that is exported, against the others."""

import numpy as np
import onnx_ir as ir
import pytest
import torch

from headway.errors import SourceError
from headway.exporter.graph.edit import nodes
from headway.exporter.graph.export_operators import EXPORT_OPERATORS
from headway.exporter.graph.torch_module import TorchModule
from headway.exporter.graph.torch_operators import OPERATORS
from headway.exporter.targets.phones.torch_export import export_module

from tests.support.run_module import run
from tests.support.variants import answers, apart, feeds


def test_the_tanh_form_of_gelu_is_not_the_exact_one(bert_model: ir.Model) -> None:
    """Delegates compute one for the other without a word, so that the module spells it out."""
    model = bert_model.clone()
    for node in nodes(model.graph, "Gelu"):
        node.attributes["approximate"] = ir.AttrString("approximate", "tanh")
    _, exported = export_module(model, 60)
    assert not any("gelu" in str(n.target) for n in exported.graph.nodes)
    assert apart(answers(model, feeds()), run(TorchModule(model), feeds()), feeds()) < 1e-5
    assert np.isfinite(answers(model, feeds())["logits"]).all()


def test_what_cannot_be_exported_is_named() -> None:
    x = torch.zeros(1, 3, 8)
    causal = ir.node("Attention", [], attributes={"q_num_heads": 2, "kv_num_heads": 2, "is_causal": 1}, name="order")
    with pytest.raises(SourceError, match="'order': a causal attention"):
        EXPORT_OPERATORS["Attention"][0](causal, [x, x, x])
    with pytest.raises(SourceError, match="'back': a Slice that runs backwards"):
        EXPORT_OPERATORS["Slice"][0](ir.node("Slice", [], name="back"), [x, [2], [0], [1], [-1]])


@pytest.mark.parametrize("step", [-1, -2])
@pytest.mark.parametrize("start", [-1, 2**63 - 1])
def test_a_slice_of_all_an_axis_may_run_backwards(start: int, step: int) -> None:
    x = torch.arange(24).reshape(1, 3, 8)
    made = EXPORT_OPERATORS["Slice"][0](ir.node("Slice", [], name="back"), [x, [start], [-(2**63)], [2], [step]])
    assert made.tolist() == x.numpy()[..., ::step].tolist()


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_attention_is_what_the_operator_is(batch: int, kv_heads: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(batch, 5, 8), torch.randn(batch, 5, 4 * kv_heads), torch.randn(batch, 5, 4 * kv_heads)
    mask = torch.zeros(batch, 1, 5, 5)
    mask[..., 3:] = -1e4
    attributes = {"q_num_heads": 2, "kv_num_heads": kv_heads, "scale": 0.4}
    node = ir.node("Attention", [], attributes=attributes, name="attention")  # type: ignore[arg-type]
    wanted = OPERATORS["Attention"](node, [q, k, v, mask])
    assert torch.allclose(EXPORT_OPERATORS["Attention"][0](node, [q, k, v, mask]), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("operator", "inputs", "wanted"),
    [
        ("Expand", [torch.ones(1, 3), [2, 1]], torch.ones(2, 3)),
        ("Gather", [torch.tensor([5, 6, 7]), 2], torch.tensor(7)),
        ("Gather", [torch.tensor([[5, 6], [7, 8]]), [1]], torch.tensor([[7, 8]])),
        ("Max", [torch.tensor([1.0, 5.0]), torch.tensor([2.0, 3.0])], torch.tensor([2.0, 5.0])),
        ("Range", [0, 6, 2], torch.tensor([0, 2, 4])),
        ("ReduceL2", [torch.tensor([[3.0, 4.0]]), [1]], torch.tensor([[5.0]])),
        ("Slice", [torch.tensor([5, 6, 7, 8]), [1], [4], None, [2]], torch.tensor([6, 8])),
    ],
)
def test_operators_take_plain_numbers(operator: str, inputs: list, wanted: torch.Tensor) -> None:
    function, plain = EXPORT_OPERATORS[operator]
    assert {i for i, x in enumerate(inputs) if isinstance(x, int | list)} <= set(plain)
    got = function(ir.node(operator, []), inputs)
    assert got.dtype == wanted.dtype and torch.equal(got, wanted)
