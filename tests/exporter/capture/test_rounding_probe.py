"""What each FakeQuantize rounds, and what reads its results."""

import torch
from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver
from torch.nn import functional

from headway.exporter.capture.rounding_probe import tensors, watched


def rounder() -> FakeQuantize:
    return FakeQuantize(observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=torch.quint8)


class Layer(torch.nn.Module):
    """A linear layer with a FakeQuantize for its weight, its inputs, its results, and a weight that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4, 4))
        self.other = torch.nn.Parameter(torch.randn(4, 4))
        self.register_buffer("mask", torch.ones(4, 4))
        self.inputs, self.weights, self.results, self.masked = (rounder() for _ in range(4))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = functional.linear(self.inputs(x), self.weights(self.weight))
        y = functional.linear(x, self.masked(self.other * self.mask))
        return {"y": self.results(y)}


def test_weights_and_activations_are_told_apart() -> None:
    layer = Layer()
    with torch.no_grad(), watched(layer) as (places, read):
        layer(torch.randn(2, 3, 4))
    assert list(places) == ["inputs", "weights", "results", "masked"]
    assert places["weights"].parameters == [layer.weight] and not places["weights"].activations
    assert places["masked"].computed and not places["masked"].parameters
    assert places["inputs"].activations and places["inputs"].weights == [places["weights"]]
    assert not places["inputs"].elsewhere and places["results"].elsewhere
    assert id(layer.other) in read and id(layer.weight) not in read
    assert not layer._forward_hooks and not layer.inputs._forward_hooks and not layer.inputs._forward_pre_hooks


def test_what_is_read_beside_a_linear_layer_is_read_elsewhere() -> None:
    class Residual(Layer):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.inputs(x)
            assert x.shape[-1] == 4  # which reads no numbers
            return x + functional.linear(x, self.weight)

    layer = Residual()
    with torch.no_grad(), watched(layer) as (places, _):
        layer(torch.randn(2, 3, 4))
    assert places["inputs"].elsewhere and places["inputs"].weights == [None]


def test_linear_layers_of_one_row_for_each_text_are_no_matmuls_of_tokens() -> None:
    layer = Layer()
    layer.results.disable_fake_quant()
    with torch.no_grad(), watched(layer) as (places, _):
        layer(torch.randn(3, 4))
    assert places["inputs"].elsewhere and "results" not in places


def test_results_are_found_in_what_models_return() -> None:
    one, two = torch.ones(1), torch.ones(2)
    assert list(tensors({"a": (one, None), "b": [3, two]})) == [one, two]
