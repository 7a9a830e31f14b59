"""Trained matmuls and the linear layers made of them."""

import numpy as np
import onnx_ir as ir
import torch

from headway.exporter.graph.edit import nodes
from headway.exporter.graph.linear_layers import Linear, LinearWeights, trained_matmul

from tests.support.variants import pruned, rounded


def test_a_bias_is_part_of_its_matmul(bert_model: ir.Model) -> None:
    matmuls = [m for n in bert_model.graph if (m := trained_matmul(n)) is not None]
    weights = [str(m.weight.name) for m in matmuls]
    assert len(weights) == len(nodes(bert_model.graph, "MatMul", "Gemm")) and "classifier.weight" in weights
    assert all(m.bias is not None for m in matmuls) and not any(m.per_token or m.made_of for m in matmuls)
    added = [m for m in matmuls if m.add is not None]
    assert len(added) == len(nodes(bert_model.graph, "MatMul"))  # a Gemm adds its bias itself
    assert all(m.add is not None and m.result is m.add.outputs[0] for m in added)


def test_what_quantizes_a_matmul_is_part_of_it(bert_model: ir.Model) -> None:
    quantized, matrices = rounded(pruned(bert_model))
    matmuls = {str(m.weight.name): m for n in quantized.graph if (m := trained_matmul(n)) is not None}
    assert matrices.keys() <= matmuls.keys()
    for name in matrices:
        kinds = [n.op_type for n in matmuls[name].made_of]
        assert kinds == ["DequantizeLinear", "QuantizeTokens"] and matmuls[name].per_token


def test_nodes_that_are_no_trained_matmul_have_none(bert_model: ir.Model) -> None:
    assert all(trained_matmul(n) is None for n in bert_model.graph if n.op_type not in ("MatMul", "Gemm"))


def test_blocks_of_a_weight_have_scales_of_their_own() -> None:
    rng = np.random.default_rng(0)
    q, scale = rng.integers(-127, 127, (3, 8)).astype(np.int8), rng.random((3, 2)).astype(np.float32)
    bias = rng.random(3).astype(np.float32)
    weights = LinearWeights("w", *map(torch.from_numpy, (q, scale, bias)), per_token=False)
    wanted = q * np.repeat(scale, 4, axis=1)
    assert np.array_equal(weights.float_weight().numpy(), wanted)
    x = rng.standard_normal((2, 8)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(Linear(weights)(torch.from_numpy(x)).numpy(), x @ wanted.T + bias, rtol=1e-5)


def test_inputs_are_rounded_per_token_where_they_should_be() -> None:
    x = torch.tensor([[0.0, 1.0, 255.0], [0.0, 0.3, 0.6]])
    weights = LinearWeights("w", torch.eye(3), None, None, per_token=True)
    with torch.no_grad():
        out = Linear(weights)(x)
    assert torch.equal(out[0], x[0])  # levels of 1
    assert not torch.equal(out[1], x[1]) and torch.allclose(out[1], x[1], atol=0.6 / 255)
