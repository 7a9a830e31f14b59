"""From an engine's layers back to the source's modules, and how far each module's result is from what it should be."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..graph.edit import projection_weight


@dataclass(frozen=True)
class LayerDifference:
    """One module's result in the typed graph against the float32 one, at real positions."""

    module: str
    dtype: str
    max_abs: float
    relative: float
    """Norm of the difference over norm of the float32 result."""


def module_values(graph: ir.Graph) -> dict[str, ir.Value]:
    """Results of modules by name, in order of execution: values that carry the name of the module that makes them."""
    modules = {str(name).rpartition(".")[0] for name in graph.initializers}
    values = (v for node in graph for v in node.outputs)
    return {str(v.name): v for v in values if str(v.name).split("#")[0] in modules}


def name_nodes(graph: ir.Graph) -> None:
    """Names every node after what it makes, which builders keep as layer names: `encoder.layer.0.output.dense.matmul`."""
    for node in graph:
        weight = projection_weight(node) if node.op_type == "MatMul" else None
        name = str(node.outputs[0].name)
        if weight is not None and "." in str(weight.name) and not name.startswith(str(weight.name).rpartition(".")[0]):
            name = f"{str(weight.name).rpartition('.')[0]}.matmul:{name}"
        node.name = name


def module_of(layer: str, modules: Iterable[str]) -> str | None:
    """The module an engine's layer belongs to: the longest module name in the layer's, fused layers naming several.

    Layers between modules (`…attention.self.scores`) belong to the module that contains them.
    """
    parts = [p.strip("[]{}() ") for p in layer.replace("+", " ").replace("...", " ").split()]
    known = set(modules)
    best: str | None = None
    for part in parts:
        name = part.split(":")[0]
        while name and name not in known and not any(m.startswith(name + ".") for m in known):
            name = name.rpartition(".")[0]
        if name and (best is None or len(name) > len(best)):
            best = name
    return best


def compare_modules(
    reference: ir.Model, typed: ir.Model, feeds: Mapping[str, np.ndarray], mask: np.ndarray | None = None
) -> list[LayerDifference]:
    """Differences of all modules both graphs have, in order of execution. `mask [batch, sequence]`: real positions."""
    import torch

    from ..graph.typed_graph import TypedGraph

    graphs = [TypedGraph(m) for m in (reference, typed)]
    values = [module_values(m.graph) for m in (reference, typed)]
    shared = [name for name in values[1] if name in values[0]]
    with torch.no_grad():
        wanted, got = (g.run(g.feeds(feeds), [v[n] for n in shared]) for g, v in zip(graphs, values, strict=True))
    real = torch.from_numpy((mask if mask is not None else feeds["attention_mask"]).astype(bool))
    found = []
    for name in shared:
        a, b = wanted[values[0][name]].double(), got[values[1][name]].double()
        if a.shape[: real.ndim] == real.shape:
            a, b = a[real], b[real]
        dtype = values[1][name].dtype
        relative = float((a - b).norm() / a.norm().clamp_min(1e-30))
        found.append(LayerDifference(name, dtype.name.lower() if dtype else "", float((a - b).abs().max()), relative))
    return found
