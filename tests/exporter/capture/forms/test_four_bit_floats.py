"""Weights in 4-bit floats: what ONNX Runtime makes of every code, in float32."""

import numpy as np
import pytest
from onnx import helper

from tests.support.tool_forms import check_one, refuse_one

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 32)).astype(np.float32)
N, K, BLOCK = 6, 32, 16


def node(kind: int, **more: int):
    settings = {"K": K, "N": N, "block_size": BLOCK, "quant_type": kind, **more}
    return helper.make_node("MatMulBnb4", ["x", "b", "s"], ["y"], domain="com.microsoft", name="n", **settings)


def weights() -> dict[str, np.ndarray]:
    codes = np.arange(N * K // 2) * 37 % 256
    assert len({*(codes >> 4), *(codes & 15)}) == 16
    return {"b": codes.astype(np.uint8), "s": RNG.uniform(0.5, 2, N * K // BLOCK).astype(np.float32)}


@pytest.mark.parametrize("kind", [0, 1], ids=["FP4", "NF4"])
def test_every_code_is_read(kind: int) -> None:
    reading = check_one(node(kind), {"x": X}, weights())
    assert any("held as the float32 values" in note for note in reading.notes)


@pytest.mark.parametrize(
    ("change", "settings", "match"),
    [
        (
            {"b": np.zeros(95, np.uint8)},
            {},
            "95 bytes and 12 scales for 32 by 6 weights in blocks of 16: the file is damaged",
        ),
        ({"s": np.ones(3, np.float32)}, {}, "96 bytes and 3 scales"),
        ({"s": np.full(12, np.nan, np.float32)}, {}, "a scale is not finite"),
        ({}, {"quant_type": 2}, "weights of type 2 are not read"),
        ({}, {"K": 1 << 40, "N": 1 << 20}, "is none: the file is damaged"),
    ],
)
def test_damaged_weights_are_refused_by_name(change: dict, settings: dict, match: str) -> None:
    refuse_one(
        match, node(0, **settings) if "quant_type" not in settings else node(2), {"x": X}, {**weights(), **change}
    )
