"""Masked softmax against its float64 definition, on every instruction set of this processor."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headway.kernels import cpu, reference

from tests.support.cpu_kernels import SETS, library, needs_library, quick, tolerance

pytestmark = needs_library


@quick
@given(st.data())
def test_masked_softmax(data: st.DataObject) -> None:
    shape = [
        *data.draw(st.lists(st.integers(0, 5), max_size=3)),
        data.draw(st.sampled_from([1, 2, 3, 15, 16, 17, 64, 65, 100, 257])),
    ]
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    dtype = data.draw(st.sampled_from([np.float32, np.float32, np.float16]))
    scale = data.draw(
        st.sampled_from([1.0, 0.125, -0.7, 30.0] if dtype == np.float16 else [1.0, 0.125, -0.7, 1e4, 0.0])
    )
    x = rng.standard_normal(shape).astype(dtype)
    bias = None
    if data.draw(st.booleans()):
        spread = [d if data.draw(st.booleans()) else 1 for d in shape[data.draw(st.integers(0, len(shape) - 1)) :]]
        bias = np.where(rng.random(spread) < 0.4, -np.inf, rng.standard_normal(spread)).astype(dtype)
    for name in SETS:
        library().headway_isa(name)
        (y,) = cpu.run("MaskedSoftmax", [x, bias], scale=scale)
        wanted = reference.masked_softmax(x, bias, np.float32(scale))
        assert y.shape == x.shape
        assert y.dtype == dtype
        np.testing.assert_allclose(y, wanted, rtol=0, atol=tolerance(scale * x.astype(np.float64), dtype))


def test_softmax_of_special_values(isa: str) -> None:
    inf = np.inf
    x = np.full((7, 37), -inf, np.float32)
    x[1, 3] = 0  # one key alone
    x[2] = np.float32(1e-42)  # denormals
    x[3], x[3, 5] = 0, inf
    x[4], x[4, 36] = 0, np.nan
    x[5] = np.float32(1e38)
    x[6] = np.linspace(-200, 0, 37)
    (y,) = cpu.run("MaskedSoftmax", [x])
    np.testing.assert_allclose(y, reference.masked_softmax(x), rtol=0, atol=1e-6)
    assert not y[0].any()
    assert y[1, 3] == 1
    assert np.isnan(y[3:5]).all()
    bias = np.full((1, 37), -inf, np.float32)
    assert not cpu.run("MaskedSoftmax", [x[5:6], bias])[0].any()
    assert np.isnan(cpu.run("MaskedSoftmax", [x[5:6]], scale=1e4)[0]).all()  # an overflow stays visible


def test_a_large_softmax_gives_the_bits_of_its_parts(isa: str) -> None:
    """Results beyond the size of caches are written past them."""
    x = np.random.default_rng(0).standard_normal((4200, 2048), np.float32)
    (complete,) = cpu.run("MaskedSoftmax", [x, x[:1]], scale=3.0, threads=2)
    for first, count in ((0, 1), (1, 6), (4100, 100)):
        (part,) = cpu.run("MaskedSoftmax", [x[first : first + count], x[:1]], scale=3.0)
        np.testing.assert_array_equal(complete[first : first + count], part)
