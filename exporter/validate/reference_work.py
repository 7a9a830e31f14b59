"""Define the reference workload: a small encoder in numpy, beside which a bundle is timed so that a figure holds on a like machine."""

from collections.abc import Mapping

import numpy as np

NAME = "reference workload 1"
"""The work that a lock's ratios are to. Another work gets another number, and old locks are refused."""

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "BLIS")} | {
    "VECLIB_MAXIMUM_THREADS": "1"
}
"""Variables that keep numpy's matmuls on one thread; they are read when numpy is imported. ONNX Runtime reads none of them."""

_LAYERS, _TOKENS, _HIDDEN, _WIDTH = 3, 32, 384, 1536


class ReferenceWork:
    """A runner of fixed work, whatever it is given: three blocks of an encoder on 32 tokens, 21 MB of float32 weights.

    It does what an encoder does, so that a neighbor on the machine slows both alike: small matmuls alone stay in the nearest cache,
    and hardly notice one. It needs no onnxruntime, so that a later version of that does not move what it is measured against.
    """

    def __init__(self) -> None:
        rng = np.random.default_rng(0)

        def weights(rows: int, columns: int) -> np.ndarray:
            return rng.standard_normal((rows, columns), dtype=np.float32) / np.float32(np.sqrt(rows))

        shapes = [(_HIDDEN, 3 * _HIDDEN), (_HIDDEN, _HIDDEN), (_HIDDEN, _WIDTH), (_WIDTH, _HIDDEN)]
        self._layers = [[weights(*shape) for shape in shapes] for _ in range(_LAYERS)]
        self._tokens = rng.standard_normal((_TOKENS, _HIDDEN), dtype=np.float32)

    def run(self, _feeds: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Do the work once; return what the encoder gives, float32 `[32, 384]`."""
        x = self._tokens
        for project, out, up, down in self._layers:
            query, key, value = np.split(x @ project, 3, axis=1)
            scores = np.exp(query @ key.T / np.float32(_HIDDEN))
            x = _normalized(x + (scores / scores.sum(axis=1, keepdims=True)) @ value @ out)
            x = _normalized(x + np.maximum(x @ up, 0) @ down)
        return {"last_hidden_state": x}


def _normalized(x: np.ndarray) -> np.ndarray:
    centered = x - x.mean(axis=1, keepdims=True)
    return np.asarray(centered / np.sqrt((centered * centered).mean(axis=1, keepdims=True) + np.float32(1e-6)))
