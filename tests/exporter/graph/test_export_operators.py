"""Operators in the form that is exported, against ONNX Runtime."""

import numpy as np
import onnx_ir as ir

from headway.exporter.graph.edit import nodes
from headway.exporter.graph.torch_module import TorchModule
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
