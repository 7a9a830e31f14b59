"""Cuts of shared and of quantized weights."""

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import UsageError
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant
from headway.exporter.passes.cuts import Cuts
from headway.exporter.passes.heads import RemoveHeads
from headway.exporter.passes.lowrank import SplitWeights
from headway.exporter.passes.neurons import RemoveNeurons


def test_shared_layers_are_cut_together_or_not_at_all(family_models: dict[str, ir.Model]) -> None:
    with pytest.raises(UsageError, match="shared"):
        RemoveHeads({0: [0]})(family_models["albert"].clone())
    with pytest.raises(UsageError, match="shared"):
        RemoveNeurons({(0, 0): [0], (1, 0): [1], (2, 0): [1]})(family_models["albert"].clone())


def test_quantized_weights_are_refused(bert_model: ir.Model) -> None:
    """Structure goes before precision: a quantized matrix can be neither cut nor split."""
    model = bert_model.clone()
    name = "encoder.layer.0.output.dense.weight"
    weight = model.graph.initializers[name]
    node = next(n for n, _ in weight.uses())
    scale = ir.Value(name="scale", const_value=ir.Tensor(np.float32(0.01)), shape=ir.Shape([]))
    integers = ir.Value(
        name=f"{name}.int8", const_value=ir.Tensor(np.ones((64, 32), np.int8)), shape=ir.Shape([64, 32])
    )
    for value in (scale, integers):
        model.graph.register_initializer(value)
    real = ir.node("DequantizeLinear", [integers, scale], name="dequantize")
    real.outputs[0].shape, real.outputs[0].type = ir.Shape([64, 32]), ir.TensorType(ir.DataType.FLOAT)
    model.graph.insert_before(node, real)
    node.replace_input_with(1, real.outputs[0])
    del model.graph.initializers[name]
    with pytest.raises(UsageError, match="before quantizing"):
        RemoveNeurons({(0, 0): [0, 1]})(model)
    with pytest.raises(UsageError, match="quantized or split before"):
        SplitWeights({name: 4})(model)


def test_readers_have_to_agree(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    projection = read_anatomy(model).blocks[0].feed_forwards[0].up
    before = np.array(constant(model.graph.initializers[projection.weight]))
    cuts = Cuts()
    cuts.columns(projection.node, np.array([1, 5]))
    with pytest.raises(UsageError, match=r"intermediate\.dense\.weight is shared, and its users"):
        cuts.columns(projection.node, np.array([1, 6]))
    cuts.apply()
    weight, bias = (model.graph.initializers[f"encoder.layer.0.intermediate.dense.{n}"] for n in ("weight", "bias"))
    assert np.array_equal(constant(weight), before[:, [1, 5]]) and bias.shape == ir.Shape([2])
    assert projection.output.shape is not None and projection.output.shape[-1] == 2
