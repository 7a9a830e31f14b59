"""The bfloat16 layers against their definition, on every way in which this processor can compute them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.kernels import cpu
from headway.kernels.reference import Activation, activate
from headway.kernels.reference_bfloat16 import bfloat16_feed_forward, bfloat16_linear, round_bfloat16

from tests.support.cpu_kernels import library, needs_library

pytestmark = needs_library

F32 = np.float32
BF16 = ml_dtypes.bfloat16
CONSTANTS = {"Bfloat16Linear": (1, 2), "Bfloat16FeedForward": (1, 2, 3, 4)}
ACTIVATIONS: tuple[Activation, ...] = ("none", "gelu", "gelu_tanh", "relu", "tanh")

Path = tuple[bytes, int]
PATHS: list[Path] = [(b"baseline", 0), (b"baseline", 1), (b"avx2", 0), (b"avx512", 0), (b"avx512", 1), (b"avx512", 2)]
"""Instruction sets, and how bfloat16 is multiplied with them: widened to float32, by dot products, by tiles."""


@contextmanager
def using(path: Path) -> Iterator[bool]:
    """Kernels made inside use these instructions; False where the processor lacks them."""
    best = library().headway_isa(None)
    try:
        yield library().headway_isa(path[0]) == path[0] and library().headway_bfloat16(path[1]) == path[1]
    finally:
        library().headway_bfloat16(2)
        library().headway_isa(best)


def available() -> list[Path]:
    paths = []
    for path in PATHS if cpu.library_path() is not None else ():
        with using(path) as there:
            if there:
                paths.append(path)
    return paths


everywhere = pytest.mark.parametrize("path", available(), ids=lambda path: f"{path[0].decode()}-{path[1]}")


def call(op: str, *inputs: np.ndarray | None, threads: int = 1, activation: Activation | None = None) -> np.ndarray:
    attributes = {} if activation is None else {"activation": activation}
    return cpu.run(op, inputs, constants=CONSTANTS[op], threads=threads, **attributes)[0]


def layer(rng: np.random.Generator, rows: int, inputs: int, outputs: int) -> tuple[np.ndarray, ...]:
    """Return x, weight, bias, residual; the rows of very different sizes."""
    x = rng.normal(size=(rows, inputs)) * 10.0 ** rng.uniform(-4, 4, (rows, 1))
    weight = rng.normal(size=(inputs, outputs)) / np.sqrt(inputs)
    return (
        x.astype(F32),
        weight.astype(BF16),
        rng.normal(size=outputs).astype(F32),
        rng.normal(size=(rows, outputs)).astype(F32),
    )


def close(y: np.ndarray, x: np.ndarray, weight: np.ndarray, *others: np.ndarray, wanted: np.ndarray) -> None:
    """Assert that sums are as near as float32 allows: each product and each step rounds by 2^-24 of what it adds up to."""
    size = np.abs(x.astype(np.float64)) @ np.abs(weight.astype(np.float64)) + sum(np.abs(o) for o in others)
    allowed = (4 + x.shape[-1]) * 2.0**-23 * size + 1e-6 * (1 + np.abs(wanted))
    assert np.all(np.abs(y - wanted) <= allowed)


def test_this_processor_is_tested_on_its_best_path() -> None:
    assert (library().headway_isa(None), library().headway_bfloat16(-1)) == available()[-1]
    assert available()[0] == (b"baseline", 0)


@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(0, 200),
    inputs=st.integers(1, 200),
    outputs=st.integers(1, 130),
    seed=st.integers(0, 2**32 - 1),
    activation=st.sampled_from(ACTIVATIONS),
)
def test_every_path_gives_what_is_defined(
    rows: int, inputs: int, outputs: int, seed: int, activation: Activation
) -> None:
    x, weight, bias, residual = layer(np.random.default_rng(seed), rows, inputs, outputs)
    for path in available():
        with using(path):
            y = call("Bfloat16Linear", x, weight, bias, residual, activation=activation)
            bare = call("Bfloat16Linear", x, weight)
        rounded = path[1] > 0
        close(y, x, weight, np.abs(bias), np.abs(residual),
              wanted=bfloat16_linear(x, weight, bias, residual, activation, rounded=rounded))  # fmt: skip
        close(bare, x, weight, wanted=bfloat16_linear(x, weight, rounded=rounded))


@everywhere
@pytest.mark.parametrize("shape", [(1, 1, 1), (17, 31, 33), (65, 1100, 47), (300, 1536, 40), (260, 520, 97)], ids=str)
def test_shapes_at_the_edges_of_tiles_and_of_parts(path: Path, shape: tuple[int, int, int]) -> None:
    """More inputs than stay in the cache are added part by part, and more rows than a block in several blocks."""
    x, weight, bias, residual = layer(np.random.default_rng(0), *shape)
    with using(path):
        y = call("Bfloat16Linear", x, weight, bias, residual)
    close(y, x, weight, np.abs(bias), np.abs(residual),
          wanted=bfloat16_linear(x, weight, bias, residual, rounded=path[1] > 0))  # fmt: skip


@everywhere
def test_rows_are_rounded_to_nearest_even_where_the_processor_multiplies_bfloat16(path: Path) -> None:
    """Halfway numbers, on both sides of an even one, one by one: weight 1 passes them through."""
    x = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-20, -(1 + 2.0**-8), 3.3e38, 1 / 3], F32)[:, None]
    with using(path):
        y = call("Bfloat16Linear", x, np.ones((1, 1), BF16))
    np.testing.assert_array_equal(y, round_bfloat16(x) if path[1] else x)


@everywhere
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_visible_and_in_its_row(path: Path, bad: float) -> None:
    rng = np.random.default_rng(2)
    for inputs in (1, 7, 64, 129):
        x, weight, bias, _ = layer(rng, 37, inputs, 21)
        weight[np.abs(weight.astype(F32)) < 1e-3] = 1e-3
        with using(path):
            clean = call("Bfloat16Linear", x, weight, bias)
            x[4, rng.integers(inputs)] = bad
            y = call("Bfloat16Linear", x, weight, bias)
            both = call("Bfloat16FeedForward", x, weight, bias, weight.T.copy(), x[0] * 0)
        assert not np.isfinite(y[4]).any() and not np.isfinite(both[4]).any()
        if np.isnan(bad):
            assert np.isnan(y[4]).all() and np.isnan(both[4]).all()
        np.testing.assert_array_equal(np.delete(y, 4, 0), np.delete(clean, 4, 0))
    nan_of_few_bits = np.array([[0x7F800001]], np.uint32).view(F32)  # its first half alone would be infinity
    with using(path):
        assert np.isnan(call("Bfloat16Linear", nan_of_few_bits, np.ones((1, 1), BF16))).all()


@everywhere
def test_denormals_count_at_most_as_themselves(path: Path) -> None:
    """Processors that multiply bfloat16 may take them for zero, as their manuals say; nothing else may come out."""
    x = np.full((3, 40), 1e-39, F32)
    with using(path):
        y = call("Bfloat16Linear", x, np.ones((40, 5), BF16))
    assert np.allclose(y, 4e-38, rtol=1e-2, atol=0) or (path[1] > 0 and not y.any())


@everywhere
@pytest.mark.parametrize("activation", ACTIVATIONS[1:])
def test_activation_error(path: Path, activation: Activation) -> None:
    """At most 4e-7 of max(1, |x|); weight 0 and bias x pass x through unchanged."""
    x = np.concatenate([np.linspace(-12, 12, 4001), [0.0, 1e-30, -1e-30, 1e4, -1e4, 88.0, -88.0]]).astype(F32)
    with using(path):
        y = call("Bfloat16Linear", np.zeros((1, 1), F32), np.zeros((1, len(x)), BF16), x, activation=activation)[0]
    assert np.max(np.abs(y - activate(x, activation)) / np.maximum(1, np.abs(x))) <= 4e-7


@everywhere
@pytest.mark.parametrize("op", list(CONSTANTS))
def test_threads_and_neighbors_do_not_matter(path: Path, op: str) -> None:
    """The same bits from 1 to 4 threads, from any split of the batch and for any shape of it."""
    rng = np.random.default_rng(3)
    x, weight, bias, residual = layer(rng, 300, 65, 550)
    inputs: list[np.ndarray] = [weight, bias]
    if op == "Bfloat16FeedForward":
        _, weight, bias, residual = layer(rng, 300, 550, 65)
        inputs += [weight, bias]
    with using(path):
        complete = call(op, x, *inputs, residual, activation="gelu")
        for threads in (2, 4):
            np.testing.assert_array_equal(call(op, x, *inputs, residual, threads=threads, activation="gelu"), complete)
        for size in (1, 7, 17, 48, 130):
            part = call(op, x[100 : 100 + size], *inputs, residual[100 : 100 + size], threads=2, activation="gelu")
            np.testing.assert_array_equal(part, complete[100 : 100 + size])
        shape = (5, 4, 15)
        shaped = call(op, x.reshape(*shape, -1), *inputs, residual.reshape(*shape, -1), activation="gelu")
        np.testing.assert_array_equal(shaped, complete.reshape(*shape, -1))
        assert call(op, x[:0], *inputs, residual[:0]).shape == (0, residual.shape[1])
        assert call(op, x[0], *inputs, residual[0], activation="gelu").tobytes() == complete[0].tobytes()


@everywhere
def test_threads_share_many_rows_block_by_block(path: Path) -> None:
    rng = np.random.default_rng(3)
    x, up, up_bias, _ = layer(rng, 2100, 20, 34)
    _, down, down_bias, _ = layer(rng, 1, 34, 20)
    with using(path):
        linear = call("Bfloat16Linear", x, up, up_bias, threads=2)
        both = call("Bfloat16FeedForward", x, up, up_bias, down, down_bias, x, threads=2)
        for part in (slice(0, 1), slice(700, 800), slice(2000, 2100)):
            np.testing.assert_array_equal(call("Bfloat16Linear", x[part], up, up_bias), linear[part])
            given = call("Bfloat16FeedForward", x[part], up, up_bias, down, down_bias, x[part])
            np.testing.assert_array_equal(given, both[part])


@everywhere
@pytest.mark.parametrize("rows", [1, 50, 300])
def test_feed_forward_is_two_layers(path: Path, rows: int) -> None:
    rng = np.random.default_rng(4)
    x, up, up_bias, _ = layer(rng, rows, 40, 90)
    _, down, down_bias, residual = layer(rng, rows, 90, 33)
    x /= np.abs(x).max(1, keepdims=True)
    with using(path):
        y = call("Bfloat16FeedForward", x, up, up_bias, down, down_bias, residual)
        between = call("Bfloat16Linear", x, up, up_bias, activation="gelu")
        np.testing.assert_array_equal(y, call("Bfloat16Linear", between, down, down_bias, residual))
    wanted = bfloat16_feed_forward(x, up, up_bias, down, down_bias, residual, rounded=path[1] > 0)
    assert np.abs(y - wanted).max() < 2e-2  # a sum that differs in its last bit may be rounded to the next bfloat16


@everywhere
def test_an_infinite_row_stays_infinite_whatever_the_hidden_width(path: Path) -> None:
    for hidden in (32, 33, 47):
        x, up, down = np.ones((3, 32), np.float32), np.ones((32, hidden)), np.ones((hidden, 32))
        x[1, 5] = np.inf
        nothing = np.zeros(hidden, np.float32), np.zeros(32, np.float32)
        with using(path):
            y = call(
                "Bfloat16FeedForward", x, up.astype(BF16), nothing[0], down.astype(BF16), nothing[1], activation="relu"
            )
        assert np.isposinf(y[1]).all() and np.isfinite(y[[0, 2]]).all()


def test_calls_at_the_same_time() -> None:
    rng = np.random.default_rng(5)
    x, weight, bias, _ = layer(rng, 130, 64, 48)
    session = cpu.open_session("Bfloat16Linear", [x, weight, bias], constants=(1, 2), threads=2)
    wanted = [session([x[i : i + 60], weight, bias])[0] for i in range(4)]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(50):
            if not np.array_equal(session([x[i : i + 60], weight, bias])[0], wanted[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong


def test_bad_input_is_named() -> None:
    x, weight, bias, residual = layer(np.random.default_rng(6), 3, 8, 5)

    def refused(words: str, *inputs: np.ndarray | None, op: str = "Bfloat16Linear", **options: object) -> None:
        with pytest.raises(Exception, match=words):
            cpu.run(op, inputs, **{"constants": CONSTANTS[op], **options})  # type: ignore[arg-type]

    name = "headway.Bfloat16Linear: "
    refused(name + r"input 'x' of shape \[3, 7\] does not end in the weight's 8", x[:, :7], weight)
    refused(name + r"input 'x' of shape \[\]", np.array(1, F32), weight)
    refused(name + r"input 'weight' must be \[inputs, outputs\], not \[40\]", x, weight.ravel())
    refused(name + r"input 'bias' must be \[5\], not \[3\]", x, weight, bias[:3])
    refused(name + r"input 'residual' of shape \[3, 4\]", x, weight, bias, residual[:, :4])
    refused(name + "attribute 'activation' is 'swish'", x, weight, activation="swish")
    refused(name + "input 'weight' must be an initializer", x, weight, constants=())
    refused(name + "input 'bias' must be an initializer", x, weight, bias, constants=(1,))
    refused("Bfloat16Linear", x, weight.astype(F32))
    refused("Bfloat16Linear", x, weight.astype(np.float16))

    op, name = "Bfloat16FeedForward", "headway.Bfloat16FeedForward: input '"
    down, wide = np.ones((6, 8), BF16), np.ones(8, F32)
    refused(name + "weight_down' has 6 inputs, 'weight_up' 5", x, weight, bias, down, wide, op=op)
    refused(name + "bias_up' must be", x, weight, bias[:2], down[:5], wide, op=op)
    refused(name + "bias_down' must be an initializer", x, weight, bias, down[:5], wide, op=op, constants=(1, 2, 3))
    refused(name + "residual' of shape", x, weight, bias, down[:5], wide, residual, op=op)
