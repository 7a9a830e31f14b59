"""Find the modules of the source by the layer names of an engine."""

from collections.abc import Iterable

import onnx_ir as ir

from ...graph.edit import projection_weight


def module_values(graph: ir.Graph) -> dict[str, ir.Value]:
    """Return the outputs of modules by name, in order of execution: values that have the name of the module that makes them."""
    modules = {str(name).rpartition(".")[0] for name in graph.initializers}
    values = (v for node in graph for v in node.outputs)
    return {str(v.name): v for v in values if str(v.name).split("#")[0] in modules}


def name_nodes(graph: ir.Graph) -> None:
    """Name every node after what it makes, which builders use as layer names: `encoder.layer.0.output.dense.matmul`."""
    for node in graph:
        weight = projection_weight(node) if node.op_type == "MatMul" else None
        name = str(node.outputs[0].name)
        if weight is not None and "." in str(weight.name) and not name.startswith(str(weight.name).rpartition(".")[0]):
            name = f"{str(weight.name).rpartition('.')[0]}.matmul:{name}"
        node.name = name


def module_of(layer: str, modules: Iterable[str]) -> str | None:
    """Return the module of an engine's layer: the longest module name in the layer's name, of which a fused layer has several.

    Layers between modules (`…attention.self.scores`) belong to the module that contains them. Return None where none is named.
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
