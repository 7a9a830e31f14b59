"""Activations with a bias against their float64 definition, on every instruction set of this processor."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headway.kernels import cpu, reference

from tests.support.cpu_kernels import SETS, library, needs_library, quick

pytestmark = needs_library


WIDTHS = st.sampled_from([1, 2, 15, 16, 17, 64, 100, 257, 384])


@quick
@given(st.integers(0, 999), st.integers(0, 40), WIDTHS, st.sampled_from(["none", "gelu", "gelu_tanh", "relu", "tanh"]))
def test_bias_activation(seed: int, rows: int, width: int, activation: reference.Activation) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((rows, width)) * 10.0 ** rng.integers(-3, 3)).astype(np.float32)
    bias = rng.standard_normal(width).astype(np.float32) if seed % 3 else None
    total = x + bias if bias is not None else x  # in float32, as it is there
    for name in SETS:
        library().headway_isa(name)
        (y,) = cpu.run("BiasActivation", [x, bias], activation=activation)
        wanted = reference.activate(total, activation)
        np.testing.assert_allclose(y, wanted, rtol=3e-7, atol=3e-7 * float(np.abs(total).max(initial=0)))
