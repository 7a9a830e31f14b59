"""Random int8 layers for tests of the kernels and of their definition."""

import numpy as np

F32 = np.float32


def layer(rng: np.random.Generator, rows: int, inputs: int, outputs: int) -> tuple[np.ndarray, ...]:
    """Return x, weight, scale, bias, residual; the rows of very different sizes."""
    x = rng.normal(rng.normal(0, 2), 1, (rows, inputs)) * 10.0 ** rng.uniform(-4, 4, (rows, 1))
    return (
        x.astype(F32),
        rng.integers(-128, 128, (inputs, outputs)).astype(np.int8),
        rng.uniform(1e-3, 1e-2, outputs).astype(F32),
        rng.normal(size=outputs).astype(F32),
        rng.normal(size=(rows, outputs)).astype(F32),
    )
