"""Attention written out computes what the node computes, against numpy in float64."""

import numpy as np
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.exporter.graph.canonical_attention import canonicalize_attention
from headway.exporter.graph.decompose import decompose_attention
from headway.exporter.graph.probe import Prober

from tests.support.hand_made import decomposed, reference, run


@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 4), length=st.integers(1, 20), seed=st.integers(0, 1000))
def test_decomposition_is_the_inverse(batch: int, length: int, seed: int) -> None:
    model = decomposed("mul", "add", seed)
    rng = np.random.default_rng(seed)
    ids, mask = rng.integers(0, 50, (batch, length)), rng.integers(0, 2, (batch, length))
    mask[:, 0] = 1
    expected = reference(model, ids, mask)
    values = ir.convenience.create_value_mapping(model.graph)
    canonicalize_attention(model, Prober(model, 50), values["attention_mask"], values["input_ids"], 64)
    assert decompose_attention(model) == 1
    model.graph.sort()
    np.testing.assert_allclose(run(model, {"input_ids": ids, "attention_mask": mask})[0], expected, atol=3e-5)
