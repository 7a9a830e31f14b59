"""Canonical graphs with symmetric int8 QuantizeLinear/DequantizeLinear pairs, for tests of what targets make of them."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant, dims, initializer, insert
from headway.exporter.targets.tensorrt.lower import PROBABILITY_SCALE, observe


def quantize(model: ir.Model, feeds: Mapping[str, np.ndarray], *, attention: bool = True) -> None:
    """Quantizes the blocks' products in place: inputs one step a tensor, weights one a column; with `attention` its inputs."""
    graph, largest = model.graph, observe(model, [feeds])
    zero = initializer(graph, "zero_point_int8", np.array(0, np.int8))
    pairs: dict[ir.Value, ir.Value] = {}

    def pair(value: ir.Value, before: ir.Node) -> ir.Value:
        if value not in pairs:
            step = initializer(graph, f"{value.name}.step", np.float32(max(largest[str(value.name)], 1e-6) / 127))
            common = {"shape": value.shape}
            short = insert(
                before, "QuantizeLinear", [value, step, zero], name=f"{value.name}.q", dtype=ir.DataType.INT8, **common
            )
            long = insert(
                before,
                "DequantizeLinear",
                [short, step, zero],
                name=f"{value.name}.dq",
                dtype=ir.DataType.FLOAT,
                **common,
            )
            pairs[value] = long
        return pairs[value]

    for block in read_anatomy(model).blocks:
        nodes = {n for p in block.projections for n in p.nodes}
        for node in sorted(nodes, key=list(graph).index):
            weight = node.inputs[1]
            array = constant(weight)
            if array is None or weight is None:
                continue
            node.replace_input_with(0, pair(node.inputs[0], node))
            steps = np.maximum(np.abs(array).max(axis=0), 1e-6).astype(np.float32) / 127
            name = f"{weight.name}.int8"
            if name not in graph.initializers:
                initializer(graph, name, np.clip(np.rint(array / steps), -127, 127).astype(np.int8))
                initializer(graph, f"{weight.name}.steps", steps)
            parts = [graph.initializers[name], graph.initializers[f"{weight.name}.steps"]]
            back = insert(
                node,
                "DequantizeLinear",
                parts,
                name=f"{node.name}.weight",
                dtype=ir.DataType.FLOAT,
                shape=dims(weight),
                axis=1,
            )
            node.replace_input_with(1, back)
        if attention and block.attention is not None:
            node = block.attention.node
            node.metadata_props[PROBABILITY_SCALE] = str(1 / 127)
            for i in range(3):
                node.replace_input_with(i, pair(node.inputs[i], node))
    graph.sort()
