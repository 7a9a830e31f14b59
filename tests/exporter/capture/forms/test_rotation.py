"""Rotary position embeddings: in plain operators, as ONNX Runtime computes them."""

import numpy as np
import pytest
from onnx import helper

from tests.support.tool_forms import check_one, refuse_one

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 16)).astype(np.float32)
PLACES = np.array([[0, 1, 2], [4, 5, 3]])


def angles(pairs: int) -> dict[str, np.ndarray]:
    turns = np.outer(np.arange(8), 1 / 10 ** np.arange(pairs)).astype(np.float32)
    return {"c": np.cos(turns), "s": np.sin(turns)}


def rotary(**settings: object):
    return helper.make_node(
        "RotaryEmbedding", ["x", "p", "c", "s"], ["y"], domain="com.microsoft", name="n", **settings
    )


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("places", [PLACES, np.array([2])], ids=["each", "from one on"])
def test_whole_heads(interleaved: int, places: np.ndarray) -> None:
    check_one(rotary(interleaved=interleaved), {"x": X, "p": places}, angles(4))
    heads_first = X.reshape(2, 3, 2, 8).transpose(0, 2, 1, 3).copy()
    check_one(rotary(interleaved=interleaved), {"x": heads_first, "p": places}, angles(4))


@pytest.mark.parametrize("interleaved", [0, 1])
def test_a_part_of_each_head(interleaved: int) -> None:
    made = rotary(interleaved=interleaved, num_heads=2, rotary_embedding_dim=4)
    check_one(made, {"x": X, "p": PLACES}, angles(2))


def test_what_does_not_fit_is_refused() -> None:
    inputs = {"x": X, "p": PLACES}
    refuse_one("cosines of shape .8, 4. and sines of .8, 3.", rotary(), inputs, angles(4) | {"s": angles(3)["s"]})
    refuse_one("does not say how many there are", rotary(rotary_embedding_dim=4), inputs, angles(2))
    damaged = rotary(num_heads=2, rotary_embedding_dim=4)
    refuse_one("it rotates 4 features by angles of 8", damaged, inputs, angles(4))
    refuse_one("several texts in one row", rotary(is_packed_batching=1), inputs, angles(4))
    refuse_one("it scales what it rotates", rotary(scale=2.0), inputs, angles(4))
    refuse_one("its cosines is not a constant", rotary(), inputs | {"c": angles(4)["c"]}, {"s": angles(4)["s"]})
