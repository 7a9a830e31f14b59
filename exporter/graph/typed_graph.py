"""Run a typed graph as typed: every result is rounded to the dtype that the graph gives it. Imports torch.

ONNX Runtime's CPU provider does not do that. It has no float16 kernels for most operators on x86, computes them in float32
and leaves out the rounding between them, so nothing overflows there that would on a GPU. Here, inside one operator, sums
are float32, as on tensor cores.
"""

import onnx_ir as ir
import torch

from .torch_graph import TorchGraph
from .torch_node import DTYPES, Tensor

_LOW = (torch.float16, torch.bfloat16)


class TypedGraph(TorchGraph):
    """A model to run whose float values are float32, float16 or bfloat16."""

    def compute(self, node: ir.Node, inputs: list[Tensor | None]) -> Tensor | tuple[Tensor, ...]:
        """Return the results of one node, each in the dtype of its value."""
        wide = [x.float() if x is not None and x.dtype in _LOW else x for x in inputs]
        if node.op_type == "Cast":
            return super().compute(node, inputs)
        results = super().compute(node, wide)
        several = results if isinstance(results, tuple) else (results,)
        return tuple(_rounded(v, t) for v, t in zip(node.outputs, several, strict=False))


def _rounded(value: ir.Value, result: Tensor) -> Tensor:
    return result.to(DTYPES[value.dtype]) if value.dtype is not None and result.is_floating_point() else result
