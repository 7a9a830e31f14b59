"""The int8 layers against their definition: integers bit for bit, on every instruction set of this processor."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.kernels import cpu
from headway.kernels.reference import Activation, activate
from headway.kernels.reference_int8 import (
    SMALLEST_RANGE,
    quantize_rows,
    quantized_feed_forward,
    quantized_linear,
    quantized_matmul,
)

from tests.support.cpu_kernels import library, needs_library
from tests.support.int8_layers import layer

pytestmark = needs_library


F32 = np.float32


CONSTANTS = {"QuantizedLinear": (1, 2, 3, 5), "QuantizedFeedForward": (1, 2, 3, 4, 5, 6, 8, 9)}


ACTIVATIONS: tuple[Activation, ...] = ("none", "gelu", "gelu_tanh", "relu", "tanh")


PATHS = [(b"baseline", 0), (b"baseline", 1), (b"avx2", 0), (b"avx2", 1), (b"avx512", 0), (b"avx512", 1)]


@contextmanager
def path(isa: bytes, dot_product: int) -> Iterator[bool]:
    """Kernels made inside use these instructions; False where the processor lacks them."""
    best = library().headway_isa(None)
    try:
        yield library().headway_isa(isa) == isa and library().headway_dot_product(dot_product) == dot_product
    finally:
        library().headway_dot_product(1)
        library().headway_isa(best)


def available() -> list[tuple[bytes, int]]:
    paths = []
    if cpu.library_path() is None:
        return []
    for each in PATHS:
        with path(*each) as there:
            if there:
                paths.append(each)
    return paths


def call(op: str, *inputs: np.ndarray | None, threads: int = 1, activation: Activation | None = None) -> np.ndarray:
    attributes = {} if activation is None else {"activation": activation}
    return cpu.run(op, inputs, constants=CONSTANTS[op], threads=threads, **attributes)[0]


def exact(x: np.ndarray, weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return what must come out to the last bit: an integer, rounded to float32, times the product of the two scales."""
    sums, rows = quantized_matmul(x, weight)
    with np.errstate(over="ignore"):
        return sums.astype(F32) * (rows * scale.astype(F32))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(0, 70),
    inputs=st.integers(1, 200),
    outputs=st.integers(1, 130),
    seed=st.integers(0, 2**32 - 1),
    activation=st.sampled_from(ACTIVATIONS),
)
def test_every_path_gives_the_same_exact_numbers(
    rows: int, inputs: int, outputs: int, seed: int, activation: Activation
) -> None:
    x, weight, scale, bias, residual = layer(np.random.default_rng(seed), rows, inputs, outputs)
    wanted = exact(x, weight, scale)
    full = quantized_linear(x, weight, scale, bias, residual, activation)
    allowed = 1e-6 * (1 + np.abs(quantized_linear(x, weight, scale, bias)))
    first = None
    for isa in available():
        with path(*isa):
            np.testing.assert_array_equal(call("QuantizedLinear", x, weight, scale), wanted, str(isa))
            output = call("QuantizedLinear", x, weight, scale, bias, residual, activation=activation)
        assert np.all(np.abs(output - full) <= allowed + 1e-6 * np.abs(residual)), isa
        first = output if first is None else first
        np.testing.assert_array_equal(output, first, str(isa))


def test_this_processor_is_tested_on_its_best_path() -> None:
    isa = library().headway_isa(None)
    assert (isa, library().headway_dot_product(-1)) == available()[-1]
    assert available()[0] == (b"baseline", 0) or len(available()) == 1


@pytest.mark.parametrize("weight", [-128, -127, 127])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_do_not_saturate(weight: int, sign: int) -> None:
    """All 255 (and, by a negative row, all -255) times the extreme weights: pairs of products leave 16 bits behind."""
    inputs = 4001
    x = np.full((9, inputs), sign, F32)
    weights = np.full((inputs, 50), weight, np.int8)
    sums, _ = quantized_matmul(x, weights)
    assert np.all(sums == sign * 255 * weight * inputs)
    unit_scale = np.ones(1, F32)
    for isa in available():
        with path(*isa):
            np.testing.assert_array_equal(
                call("QuantizedLinear", x, weights, unit_scale), exact(x, weights, unit_scale), str(isa)
            )


@pytest.mark.parametrize(
    "weights_of",
    [(-128, 127), (-128, 1), (31, 32, 33), (-31, -32, -33), (-64, -63, 63, 64), (-128, -65, 0, 64, 127)],
    ids=str,
)
def test_extremes(weights_of: tuple[int, ...]) -> None:
    """Rows of the least and largest numbers and of neither; weights of which four just fit into 16 bits, and just do not."""
    rng = np.random.default_rng(0)
    x = rng.choice(np.array([-1, 1, 0], F32), (13, 333))
    x[0], x[1], x[2] = 1, -1, np.resize([1, -1], 333)
    weights = rng.choice(np.array(weights_of, np.int8), (333, 67))
    unit_scale = np.ones(1, F32)
    for isa in available():
        with path(*isa):
            np.testing.assert_array_equal(
                call("QuantizedLinear", x, weights, unit_scale), exact(x, weights, unit_scale), str(isa)
            )


def test_zero_constant_and_tiny_rows() -> None:
    rng = np.random.default_rng(1)
    _, weight, scale, bias, _ = layer(rng, 1, 37, 19)
    rows = [0.0, -0.0, 3.5, -3.5, 1e-38, 1e-44, SMALLEST_RANGE, SMALLEST_RANGE * 0.99, 3e38, -3e38]
    x = np.repeat(np.array(rows, F32)[:, None], 37, 1)
    for isa in available():
        with path(*isa):
            y = call("QuantizedLinear", x, weight, scale)
            np.testing.assert_array_equal(y, exact(x, weight, scale), str(isa))
            assert not y[:2].any() and y[6].any() and not y[7].any()
            np.testing.assert_array_equal(call("QuantizedLinear", x[:2], weight, scale, bias), np.tile(bias, (2, 1)))


def test_the_largest_number_is_255() -> None:
    """Both ends of the range round away from each other: 254 + 2 does not fit into a byte."""
    x = np.array([[-1.5, 253.5] + [0.0] * 63, [253.5] * 64 + [-1.5], [-7.5, 247.5] * 32 + [1.0]], F32)
    q, _, zero = quantize_rows(x)
    assert q.max() == 255 and np.rint(x[0].max()) + zero[0] == 256
    weight, unit_scale = np.random.default_rng(0).integers(-128, 128, (65, 33)).astype(np.int8), np.ones(1, F32)
    for isa in available():
        with path(*isa):
            np.testing.assert_array_equal(
                call("QuantizedLinear", x, weight, unit_scale), exact(x, weight, unit_scale), str(isa)
            )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_not_finite_stays_in_its_row(bad: float, activation: Activation) -> None:
    rng = np.random.default_rng(2)
    for inputs in (1, 7, 64, 129):
        x, weight, scale, bias, _ = layer(rng, 11, inputs, 21)
        clean = call("QuantizedLinear", x, weight, scale, bias, activation=activation)
        x[4, rng.integers(inputs)] = bad
        for isa in available():
            with path(*isa):
                y = call("QuantizedLinear", x, weight, scale, bias, activation=activation)
            assert np.isnan(y[4]).all(), isa
            np.testing.assert_array_equal(np.delete(y, 4, 0), np.delete(clean, 4, 0), str(isa))


@pytest.mark.parametrize("activation", ACTIVATIONS[1:])
def test_activation_error(activation: Activation) -> None:
    """At most 4e-7 of max(1, |x|); weight 1 and bias x pass x through unchanged."""
    x = np.concatenate([np.linspace(-12, 12, 40001), [0.0, 1e-30, -1e-30, 1e4, -1e4, 88.0, -88.0]]).astype(F32)
    weight, scale = np.zeros((1, len(x)), np.int8), np.ones(1, F32)
    wanted = activate(x, activation)
    for isa in available():
        with path(*isa):
            y = call("QuantizedLinear", np.zeros((1, 1), F32), weight, scale, x, activation=activation)[0]
        assert np.max(np.abs(y - wanted) / np.maximum(1, np.abs(x))) <= 4e-7, isa


@pytest.mark.parametrize("op", list(CONSTANTS))
def test_threads_and_neighbors_do_not_matter(op: str) -> None:
    """The same bits from 1 to 4 threads, from any split of the batch and for any shape of it."""
    rng = np.random.default_rng(3)
    x, weight, scale, bias, residual = layer(rng, 500, 65, 150)
    inputs: list[np.ndarray] = [weight, scale, bias]
    if op == "QuantizedFeedForward":
        _, weight, scale, bias, residual = layer(rng, 500, 150, 65)
        inputs += [weight, scale, bias]
    complete = call(op, x, *inputs, residual, activation="gelu")
    for threads in (2, 3, 4):
        np.testing.assert_array_equal(call(op, x, *inputs, residual, threads=threads, activation="gelu"), complete)
    for size in (1, 7, 48, 130, 300):
        part = call(op, x[100 : 100 + size], *inputs, residual[100 : 100 + size], threads=2, activation="gelu")
        np.testing.assert_array_equal(part, complete[100 : 100 + size])
    shape = (5, 4, 25)
    shaped = call(op, x.reshape(*shape, -1), *inputs, residual.reshape(*shape, -1), activation="gelu")
    np.testing.assert_array_equal(shaped, complete.reshape(*shape, -1))
    assert call(op, x[:0], *inputs, residual[:0]).shape == (0, residual.shape[1])
    assert call(op, x[0], *inputs, residual[0], activation="gelu").tobytes() == complete[0].tobytes()


def test_feed_forward_is_two_layers() -> None:
    rng = np.random.default_rng(4)
    for rows in (1, 50, 400):
        x, up, s_up, b_up, _ = layer(rng, rows, 40, 90)
        _, down, s_down, b_down, residual = layer(rng, rows, 90, 33)
        for isa in available():
            with path(*isa):
                y = call("QuantizedFeedForward", x, up, s_up, b_up, down, s_down, b_down, residual)
                between = call("QuantizedLinear", x, up, s_up, b_up, activation="gelu")
                np.testing.assert_array_equal(y, call("QuantizedLinear", between, down, s_down, b_down, residual))
    wanted = quantized_feed_forward(x[:9], up, s_up, b_up, down, s_down, b_down, residual[:9])
    # A difference in the last bit may move one of the numbers between by a step of its quantization.
    size = np.abs(wanted).max(1, keepdims=True)
    assert np.abs(y[:9] - wanted).max() <= (size * 1e-2).max()


@pytest.mark.parametrize("each", available())
@pytest.mark.parametrize("shape", [(1, 7, 5), (13, 100, 33), (97, 384, 48)])
def test_factors_are_those_of_the_inputs(each: tuple[bytes, int], shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(2)
    x, weight, scale, bias, residual = layer(rng, *shape)
    factors = np.exp(rng.normal(size=shape[1])).astype(F32)
    down, down_scale, down_bias = (
        rng.integers(-128, 128, shape[1:][::-1]).astype(np.int8),
        np.full(shape[1], 0.01, F32),
        np.zeros(shape[1], F32),
    )
    inner = np.exp(rng.normal(size=shape[2])).astype(F32)
    with path(*each):
        given = call("QuantizedLinear", x, weight, scale, bias, residual, factors)
        assert np.array_equal(given, call("QuantizedLinear", x * factors, weight, scale, bias, residual))
        both = call(
            "QuantizedFeedForward",
            x,
            weight,
            scale,
            bias,
            down,
            down_scale,
            down_bias,
            None,
            factors,
            inner,
            activation="relu",
        )
        between = call("QuantizedLinear", x * factors, weight, scale, bias, activation="relu")
        assert np.array_equal(both, call("QuantizedLinear", between * inner, down, down_scale, down_bias))
    wanted = quantized_linear(x, weight, scale, bias, residual, factors=factors)
    assert np.allclose(given, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    with pytest.raises(Exception, match=r"QuantizedLinear.*factors"):
        call("QuantizedLinear", x, weight, scale, bias, None, factors[1:])


def test_calls_at_the_same_time() -> None:
    rng = np.random.default_rng(5)
    x, weight, scale, bias, _ = layer(rng, 130, 64, 48)
    session = cpu.open_session("QuantizedLinear", [x, weight, scale, bias], constants=(1, 2, 3), threads=2)
    wanted = [session([x[i : i + 60], weight, scale, bias])[0] for i in range(4)]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(50):
            if not np.array_equal(session([x[i : i + 60], weight, scale, bias])[0], wanted[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong


def test_bad_input_is_named() -> None:
    rng = np.random.default_rng(6)
    x, weight, scale, bias, residual = layer(rng, 3, 8, 5)

    def refused(words: str, *inputs: np.ndarray | None, op: str = "QuantizedLinear", **options: object) -> None:
        options = {"constants": CONSTANTS[op], **options}
        with pytest.raises(Exception, match=words):
            cpu.run(op, inputs, **options)  # type: ignore[arg-type]

    name = "headway.QuantizedLinear: "
    refused(name + r"input 'x' of shape \[3, 7\] does not end in the weight's 8", x[:, :7], weight, scale)
    refused(name + r"input 'x' of shape \[\]", np.array(1, F32), weight, scale)
    refused(name + r"input 'weight' must be \[inputs, outputs\], not \[40\]", x, weight.ravel(), scale)
    refused(name + r"input 'scale' must be \[5\] or \[1\], not \[4\]", x, weight, scale[:4])
    refused(name + r"input 'scale' must be", x, weight, scale[:, None])
    refused(name + r"input 'bias' must be \[5\], not \[3\]", x, weight, scale, bias[:3])
    refused(name + r"input 'residual' of shape \[3, 4\]", x, weight, scale, bias, residual[:, :4])
    refused(name + "attribute 'activation' is 'swish'", x, weight, scale, activation="swish")
    refused(name + "input 'weight' must be an initializer", x, weight, scale, constants=(2,))
    refused(name + "input 'scale' must be an initializer", x, weight, scale, constants=(1,))
    refused(name + "input 'bias' must be an initializer", x, weight, scale, bias, constants=(1, 2))
    refused("QuantizedLinear", x.astype(np.float64), weight, scale, outputs=[F32])
    refused("QuantizedLinear", x, weight.astype(np.uint8), scale)
    refused("QuantizedLinear", x, weight, scale.astype(np.float64))
    deep = np.zeros((70000, 1), np.int8)
    refused(name + "input 'weight' has 70000 inputs", np.zeros((1, 70000), F32), deep, np.ones(1, F32))

    down = rng.integers(-5, 5, (6, 8)).astype(np.int8)
    wide = np.ones(8, F32)
    name = "headway.QuantizedFeedForward: input '"
    op = "QuantizedFeedForward"
    refused(name + "weight_down' has 6 inputs, 'weight_up' 5", x, weight, scale, bias, down, wide, wide, op=op)
    refused(name + "bias_up' must be", x, weight, scale, bias[:2], down[:5], wide, wide, op=op)
    refused(name + "residual' of shape", x, weight, scale, bias, down[:5], wide, wide, residual, op=op)
