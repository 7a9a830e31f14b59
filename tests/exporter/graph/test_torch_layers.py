"""Operators that are layers: ONNX Runtime's values, and gradients that are finite differences."""

import numpy as np
import pytest

from headway.errors import SourceError
from headway.exporter.graph.torch_layers import LAYERS

from tests.support.one_node import SQUARE, OneNode, X, check_gradient, check_values, in_torch, one, with_gradients


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


Q, K, V = normal(1, 2, 3, 8), normal(2, 2, 5, 8), normal(3, 2, 5, 8)
Q4, K4, V4 = normal(4, 2, 2, 3, 4), normal(5, 2, 2, 5, 4), normal(6, 2, 2, 5, 6)
HEADS = {"q_num_heads": 2, "kv_num_heads": 2}
HIDDEN = np.array([[1, 1, 0, 1, 0]] * 2, bool).reshape(2, 1, 1, 5)
BIAS = normal(7, 3, 5)
SIGNAL, IMAGE = normal(8, 2, 4, 7), normal(9, 2, 4, 6, 5)
FILTER, GROUPED, SQUARE_FILTER = normal(10, 3, 4, 3), normal(11, 4, 2, 2), normal(12, 3, 4, 3, 2)
ANGLES = normal(13, 10, 2)
COS, SIN = np.cos(ANGLES), np.sin(ANGLES)
POSITIONS = np.array([[0, 1, 2], [4, 2, 9]], np.int64)
ROTATED = {"constant": (1, 2)}

CASES: list[OneNode] = [
    one("Attention", Q, K, V, **HEADS),
    one("Attention", Q, K, V, BIAS, scale=0.3, **HEADS),
    one("Attention", Q, K, V, np.broadcast_to(HIDDEN, (2, 1, 3, 5)).copy(), **HEADS),
    one("Attention", Q, K, V, is_causal=1, **HEADS),
    one("Attention", Q, K, V, BIAS, is_causal=1, **HEADS),
    one("Attention", Q, K, V, softcap=0.5, **HEADS),
    one("Attention", Q, K, V, BIAS, softcap=0.5, is_causal=1, **HEADS),
    one("Attention", Q, K[..., :4].copy(), V[..., :4].copy(), q_num_heads=2, kv_num_heads=1),
    one("Attention", Q4, K4, V4),
    one("Attention", Q4, K4, V4, np.tril(np.ones((3, 5), bool))),
    one("AveragePool", SIGNAL, kernel_shape=[3]),
    one("AveragePool", SIGNAL, kernel_shape=[3], strides=[2], pads=[1, 1]),
    one("AveragePool", SIGNAL, kernel_shape=[3], strides=[2], pads=[1, 1], count_include_pad=1),
    one("AveragePool", IMAGE, kernel_shape=[2, 3], auto_pad="SAME_UPPER"),
    one("Conv", SIGNAL, FILTER, SQUARE[0, :3].copy()),
    one("Conv", SIGNAL, FILTER, pads=[2, 1], strides=[2]),
    one("Conv", SIGNAL, FILTER, dilations=[2], pads=[1, 2]),
    one("Conv", SIGNAL, FILTER, strides=[2], auto_pad="SAME_LOWER"),
    one("Conv", SIGNAL, GROUPED, group=2, auto_pad="VALID"),
    one("Conv", IMAGE, SQUARE_FILTER, pads=[1, 0, 0, 2]),
    one("Einsum", X, SQUARE, equation="bij,jk->bik"),
    one("Einsum", Q4, K4, equation="bhqd, bhkd -> bhqk"),
    one("Einsum", X, equation="...ij->...ji"),
    one("Einsum", SQUARE, equation="ii"),
    one("Gemm", SQUARE, SQUARE, SQUARE[0], transA=1, transB=1, alpha=0.5, beta=2.0),
    one("Gemm", SQUARE, SQUARE),
    one("Gemm", SQUARE, SQUARE, SQUARE),
    one("GlobalAveragePool", IMAGE),
    one("GlobalMaxPool", SIGNAL),
    one("MatMul", X, SQUARE),
    one("MatMul", X[0, 0], SQUARE),
    one("MatMul", Q4, np.ascontiguousarray(K4.swapaxes(2, 3))),
    one("MaxPool", SIGNAL, kernel_shape=[3], strides=[2], pads=[1, 1]),
    one("MaxPool", IMAGE, kernel_shape=[2, 2], dilations=[2, 1]),
    one("RotaryEmbedding", Q, COS, SIN, POSITIONS, num_heads=2, **ROTATED),
    one("RotaryEmbedding", Q, COS, SIN, POSITIONS, num_heads=2, interleaved=1, **ROTATED),
    one("RotaryEmbedding", Q4, COS, SIN, POSITIONS, **ROTATED),
    one("RotaryEmbedding", Q4, COS[:, :1].copy(), SIN[:, :1].copy(), POSITIONS, rotary_embedding_dim=2, **ROTATED),
    one("RotaryEmbedding", Q4, COS[POSITIONS], SIN[POSITIONS], **ROTATED),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values(case: OneNode) -> None:
    check_values(case)


@pytest.mark.parametrize("case", with_gradients(CASES), ids=str)
def test_gradients(case: OneNode) -> None:
    check_gradient(case)


def test_every_operator_is_checked() -> None:
    assert {case.operator for case in CASES} == set(LAYERS)


@pytest.mark.parametrize(
    ("case", "says"),
    [
        (
            one("Attention", Q, K, V, outputs=3, **HEADS),
            r"\(Attention, ai.onnx opset 23\): a cache of keys and values has no",
        ),
        (one("Conv", normal(1, 1, 1, 3, 3, 3, 3), normal(1, 1, 1, 1, 1, 1, 1)), "a convolution over 4 axes has no"),
        (one("MaxPool", SIGNAL, kernel_shape=[2], ceil_mode=1), "pooling with ceil_mode"),
        (one("AveragePool", SIGNAL, kernel_shape=[2], dilations=[2]), "pooling with dilations has no"),
    ],
    ids=str,
)
def test_a_form_without_a_counterpart_is_named(case: OneNode, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        in_torch(case)
