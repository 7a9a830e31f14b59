"""Linear layers on rounded inputs."""

import torch

from headway.exporter.capture.fake_quant import frozen
from headway.exporter.capture.rounded_linear import RoundedLinear


def test_inputs_are_rounded_and_the_parameters_are_those_of_the_layer() -> None:
    linear = torch.nn.Linear(3, 2)
    layer = RoundedLinear(linear, 0.5)
    x = torch.tensor([[0.26, -0.24, 100.0]])
    assert torch.equal(layer(x), linear(torch.tensor([[0.5, 0.0, 63.5]])))
    assert sorted(layer.state_dict()) == sorted(linear.state_dict())
    assert layer.weight is linear.weight and "(rounding): FixedRounding(0.5)" in repr(layer)


def test_while_a_model_is_traced_the_step_is_in_the_graph() -> None:
    layer = RoundedLinear(torch.nn.Linear(3, 2), 0.5)
    with frozen(layer):
        exported = torch.onnx.export(layer, (torch.zeros(1, 3),), dynamo=True, opset_version=23, verbose=False)
    assert exported is not None
    kinds = [n.op_type for n in exported.model.graph]
    assert kinds.count("QuantizeLinear") == 1 and kinds.count("DequantizeLinear") == 1
