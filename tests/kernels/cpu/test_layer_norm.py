"""Layer normalization against its float64 definition, on every instruction set of this processor."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headway.kernels import cpu, reference

from tests.support.cpu_kernels import SETS, library, needs_library, quick

pytestmark = needs_library


WIDTHS = st.sampled_from([1, 2, 15, 16, 17, 64, 100, 257, 384])


@quick
@given(st.integers(0, 999), st.integers(0, 40), WIDTHS, st.booleans(), st.booleans(), st.booleans())
def test_skip_layer_normalization(seed: int, rows: int, width: int, skips: bool, shifted: bool, biased: bool) -> None:
    rng = np.random.default_rng(seed)
    x, skip = (rng.standard_normal((2, rows, width)) * 10.0 ** rng.integers(-3, 4)).astype(np.float32)
    gamma, beta, bias = rng.standard_normal((3, width)).astype(np.float32)
    inputs = [x, skip if skips else None, gamma, beta if shifted else None, bias if biased else None]
    wanted, total = reference.skip_layer_normalization(*inputs, epsilon=np.float32(1e-12))
    # What is uncertain about a sum is relative to its terms, and grows as far as the norm raises them.
    spread = total.std(-1, keepdims=True)
    sizes = np.abs(x) + np.abs(skip) * skips + np.abs(bias) * biased
    allowed = (
        2e-6 * (1 + sizes.max(-1, keepdims=True, initial=0) / np.maximum(spread, 1e-6)) * np.abs(gamma).max() + 1e-6
    )
    for name in SETS:
        library().headway_isa(name)
        y, s = cpu.run("SkipLayerNormalization", inputs, outputs=[np.float32] * 2, epsilon=1e-12)
        (alone,) = cpu.run("SkipLayerNormalization", inputs, epsilon=1e-12)
        np.testing.assert_array_equal(alone, y)
        assert (np.abs(y - wanted) <= allowed).all()
        np.testing.assert_allclose(s, total, rtol=0, atol=3e-7 * float(sizes.max(initial=0)))
