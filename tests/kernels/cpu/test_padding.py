"""Padding is removed and restored; tokens are pooled."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.kernels import cpu

from tests.support.cpu_kernels import needs_library, quick

pytestmark = needs_library


@quick
@given(
    st.integers(0, 999),
    st.integers(0, 4),
    st.integers(1, 9),
    st.sampled_from([np.float32, np.float16, np.int8, np.uint8]),
)
def test_padding_goes_and_comes_back(seed: int, batch: int, length: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 100, (batch, length, 3)).astype(dtype)
    mask = rng.integers(0, 2, (batch, length))
    packed, ends = cpu.run("RemovePadding", [x, mask], outputs=[dtype, np.int32])
    np.testing.assert_array_equal(packed, x[mask.astype(bool)])
    np.testing.assert_array_equal(ends, np.concatenate([[0], np.cumsum(mask.sum(1))]))
    (back,) = cpu.run("RestorePadding", [packed, mask])
    np.testing.assert_array_equal(back, x * mask[:, :, None].astype(dtype))
    if dtype == np.float32:
        (sums,) = cpu.run("PoolTokens", [packed, ends], mode="sum")
        np.testing.assert_allclose(sums, (x * mask[:, :, None]).sum(1), rtol=1e-6)
        if not mask.any(axis=1).all():
            with pytest.raises(Exception, match=f"sequence {mask.any(axis=1).argmin()} has no token"):
                cpu.run("PoolTokens", [packed, ends], mode="first")
            return
        (first,) = cpu.run("PoolTokens", [packed, ends], mode="first")
        for row, real in enumerate(mask.astype(bool)):
            np.testing.assert_array_equal(first[row], x[row, real][0])
