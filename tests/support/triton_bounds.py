"""Error bounds of the Triton kernels, and numbers that a dtype can represent."""

import numpy as np
from hypothesis import HealthCheck, settings

HALF_ULP = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


TINY = {"float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}


few = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """float32 numbers that `dtype` has."""
    if dtype == "bfloat16":
        bits = x.astype(np.float32).view(np.uint32)
        return ((bits + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32)
    return x.astype(dtype).astype(np.float32)


def softmax_bound(x: np.ndarray, bias: np.ndarray | None, scale: float, dtype: str) -> float:
    """Scores are float32; an error of theirs is the relative error of an exponential, above and below the line."""
    largest = abs(scale) * float(np.abs(x).max(where=np.isfinite(x), initial=0))
    if bias is not None:
        largest += float(np.abs(bias).max(where=np.isfinite(bias), initial=0))
    return 4 * 2.0**-23 * (1 + largest) + HALF_ULP[dtype] + TINY[dtype]


def attention_bound(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, scale: float, dtype: str) -> float:
    """Return the same bound for attention, where weights are rounded once more before they multiply V."""
    norms = [np.linalg.norm(each.reshape(-1, each.shape[-1] // heads), axis=-1).max(initial=0) for each in (q, k)]
    largest = abs(scale) * float(norms[0] * norms[1]) + 4  # a bias of these tests is smaller than 4
    return float(np.abs(v).max(initial=0)) * (8 * 2.0**-23 * (1 + largest) + 3 * HALF_ULP[dtype])
