"""Every operator of Headway's library on the same numbers wherever it runs: `python arm_operators.py ANSWERS.npz`.

Inputs are whole numbers times powers of two, so that every machine starts from the same bits.
"""

import sys
from typing import Any

import numpy as np

from headway.kernels import cpu

SAME_BITS = ("QuantizedLinear", "QuantizedFeedForward", "RemovePadding", "RestorePadding", "PoolTokens")
"""Operators whose results are the same bits on every instruction set; those of the others are within a rounding or two."""

ACTIVATIONS = ("none", "gelu", "gelu_tanh", "relu", "tanh")


def results(cases: int = 40) -> dict[str, np.ndarray]:
    """`<operator>/<case>/<output>`; shapes are drawn anew for each case."""
    found: dict[str, np.ndarray] = {}

    def keep(op: str, case: int, inputs: list[np.ndarray | None], **options: Any) -> None:
        for i, y in enumerate(cpu.run(op, inputs, **options)):
            found[f"{op}/{case}/{i}"] = y

    for case in range(cases):
        rng = np.random.default_rng(case)

        def numbers(*shape: int, rng: np.random.Generator = rng) -> np.ndarray:
            """Multiples of 2^-12 around zero, the middle more often than the ends."""
            return (rng.integers(-(2**13), 2**13, (4, *shape)).sum(0) / 2**14).astype(np.float32)

        rows, inner, outer = (int(n) for n in rng.integers(1, (70, 200, 130)))
        x = numbers(rows, inner) * np.exp2(rng.integers(-8, 9, (rows, 1))).astype(np.float32)
        up, down = (rng.integers(-128, 128, s).astype(np.int8) for s in ((inner, outer), (outer, inner)))
        wide, narrow = np.abs(numbers(outer)) / 64, np.abs(numbers(inner)) / 64
        linear = [x, up, wide, numbers(outer), numbers(rows, outer)]
        keep("QuantizedLinear", case, linear, constants=(1, 2, 3), activation=ACTIVATIONS[case % 5])
        both = [x, up, wide, numbers(outer), down, narrow, numbers(inner), numbers(rows, inner)]
        keep("QuantizedFeedForward", case, both, constants=range(1, 7), activation=ACTIVATIONS[case % 5])

        keep("BiasActivation", case, [x, numbers(inner)], activation=ACTIVATIONS[case % 5])
        keep("SkipLayerNormalization", case, [x, numbers(rows, inner), *numbers(3, inner)])

        heads, width = int(rng.integers(1, 5)), int(rng.choice([1, 7, 16, 26, 32, 64, 80]))
        lengths = rng.integers(0, 70, 3)
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        dtype = (np.float32, np.float16)[case % 2]
        q, k, v = (numbers(int(ends[-1]), heads * width).astype(dtype) for _ in range(3))
        keep("PackedAttention", case, [q, k, v, ends], heads=heads, causal=case % 3 == 0)
        for kind, byte in (("Uint8", np.uint8), ("Int8", np.int8)):
            options = {"outputs": [byte], "y_scale": 1 / 64, "y_zero_point": 128 if kind == "Uint8" else 0}
            whole = [each.astype(np.float32) for each in (q, k, v)]
            keep(f"PackedAttentionTo{kind}", case, [*whole, ends], heads=heads, **options)
            keep(f"MaskedSoftmaxTo{kind}", case, [x], **options)
        small = [rng.integers(0, 256, q.shape).astype(np.uint8) for _ in range(3)]
        sides = {f"{n}_{what}": value for n in "qkv" for what, value in (("scale", 1 / 64), ("zero_point", 128))}
        keep("QuantizedPackedAttention", case, [*small, ends], heads=heads, y_scale=1 / 64, y_zero_point=128, **sides)
        keep("MaskedSoftmax", case, [x.astype(dtype)], scale=0.25)
        batch, longest = 3, int(lengths.max()) + 1
        padded = numbers(batch, longest, heads * width).astype(dtype)
        keep("PaddedAttention", case, [padded, padded, padded, lengths.astype(np.int32)], heads=heads)
        mask = rng.integers(0, 2, (batch, longest))
        keep("RemovePadding", case, [padded, mask], outputs=[dtype, np.int32])
        keep("RestorePadding", case, [padded[mask.astype(bool)], mask])
        packed = numbers(int(ends[-1]), 24)
        keep("PoolTokens", case, [packed, ends], mode=("sum", "first")[case % 2])
    return found


if __name__ == "__main__":
    np.savez(sys.argv[1], **results())
