"""Convert a canonical graph to a float32 `.tflite`: the part of target `litert` that needs litert-torch, in its own environment.

`python -m headway.exporter.targets.phones.litert_convert model.onnx out.tflite 16 64 256`; the numbers are the lengths of the signatures.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ....runners.rows import SIGNATURE


def convert(source: Path, out: Path, lengths: list[int]) -> None:
    """Write a file with one signature for each length, which share their weights; inputs are int32 `[1, length]`."""
    import litert_torch
    import torch
    import torch.ao.quantization.fx._decomposed  # registers the operators

    from ...graph.linear_layers import Linear, LinearWeights
    from ...graph.torch_module import NamedModule, TorchModule

    class Dequantized(torch.nn.Module):
        """A linear layer with int8 weights, dequantized by a node that the converter keeps: nothing is folded into it."""

        def __init__(self, product: LinearWeights):
            super().__init__()
            assert product.scale is not None
            self.weight = torch.nn.Parameter(product.float_weight(), requires_grad=False)
            self.scale = torch.nn.Parameter(product.scale.reshape(-1), requires_grad=False)
            self.zero = torch.nn.Parameter(torch.zeros(len(product.scale), dtype=torch.int64), requires_grad=False)
            self.bias = torch.nn.Parameter(product.bias, requires_grad=False) if product.bias is not None else None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            quantized, how = torch.ops.quantized_decomposed, (self.scale, self.zero, 0, -127, 127, torch.int8)
            weight = quantized.dequantize_per_channel(quantized.quantize_per_channel(self.weight, *how), *how)
            return torch.nn.functional.linear(x, weight, self.bias)

    def linear(product: LinearWeights) -> torch.nn.Module:
        return Linear(product) if product.scale is None else Dequantized(product)

    model = ir.load(source)
    for value in model.graph.initializers.values():  # the converter writes to weights, and a mapped file is read-only
        if value.const_value is not None:
            value.const_value = ir.Tensor(value.const_value.numpy().copy(), dtype=value.dtype, name=value.name)
    module = NamedModule(TorchModule(model, linear))
    converter: Any = litert_torch
    for length in lengths:
        feeds = {name: torch.ones((1, length), dtype=torch.int64) for name in module.module.input_names}
        converter = converter.signature(SIGNATURE.format(length), module, sample_kwargs=feeds)
    converter.convert().export(str(out))


def main() -> None:
    from ....errors import HeadwayError

    warnings.simplefilter("ignore")
    source, out, *lengths = sys.argv[1:]
    try:
        convert(Path(source), Path(out), [int(n) for n in lengths])
    except HeadwayError as error:
        problem = str(error)
    except Exception as error:  # the converter raises many kinds
        problem = f"{type(error).__name__}: {error}"
    else:
        return
    Path(out).with_suffix(".json").write_text(json.dumps({"problem": problem}), encoding="utf-8")
    raise SystemExit(1)


if __name__ == "__main__":
    main()
