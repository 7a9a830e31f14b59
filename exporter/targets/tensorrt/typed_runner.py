"""Run a typed graph in torch, with every output rounded to its own dtype."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ....kernels.tensorrt_plugin import NAMESPACE
from ....runners.base import Limits, check_mask, prepared


class TypedRunner:
    """Compute the written graph in torch, with every output rounded to its dtype: a `Runner` where there is no GPU."""

    what = "the typed graph, in torch with every result rounded to its dtype; the engine was not executed"

    def __init__(self, model: Path):
        from ...graph.typed_graph import TypedGraph

        self.graph = TypedGraph(ir.load(model))
        self.padding_behind = any(n.domain == NAMESPACE for n in self.graph.nodes)
        self.input_names = tuple(str(v.name) for v in self.graph.inputs)
        self.limits = Limits()
        self.output_names = tuple(str(v.name) for v in self.graph.outputs)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        import torch

        if self.padding_behind:
            check_mask(feeds["attention_mask"])
        wanted = prepared(feeds, self.input_names, self.limits)
        with torch.no_grad():
            return {name: value.numpy() for name, value in self.graph(wanted).items()}
