"""Masks are recognized by what they compute."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.errors import SourceError
from headway.exporter.graph.mask import MaskKind, classify
from headway.exporter.graph.probe import Prober

from tests.support.hand_made import load


def mask_model(kind: str) -> ir.Model:
    """Return a graph whose output is an attention mask of some kind, boolean or additive."""
    n = helper.make_node
    weights: dict[str, np.ndarray] = {
        "one": np.float32(1),
        "low": np.float32(-3e38),
        "axes": np.array([1, 2]),
        "zero": np.int64(0),
        "step": np.int64(1),
        "w": np.int64(2),
        "a0": np.array([0]),
        "a1": np.array([1]),
    }
    keys = [
        n("Cast", ["attention_mask"], ["f"], to=1),
        n("Sub", ["one", "f"], ["d"]),
        n("Mul", ["d", "low"], ["m"]),
        n("Unsqueeze", ["m", "axes"], ["additive"]),
    ]
    boolean = [n("Cast", ["attention_mask"], ["bm"], to=9), n("Unsqueeze", ["bm", "axes"], ["keep"])]
    steps = [
        n("Shape", ["input_ids"], ["sh"], start=1, end=2),
        n("Squeeze", ["sh"], ["len"]),
        n("Range", ["zero", "len", "step"], ["r"]),
        n("Unsqueeze", ["r", "a1"], ["q"]),
        n("Unsqueeze", ["r", "a0"], ["k"]),
    ]
    nodes = {
        "additive": [*keys, n("Identity", ["additive"], ["out"])],
        "boolean": [*boolean, n("Identity", ["keep"], ["out"])],
        "causal": [*boolean, *steps, n("GreaterOrEqual", ["q", "k"], ["c"]), n("And", ["keep", "c"], ["out"])],
        "window": [
            *boolean,
            *steps,
            n("Sub", ["q", "k"], ["off"]),
            n("Abs", ["off"], ["dist"]),
            n("LessOrEqual", ["dist", "w"], ["near"]),
            n("And", ["keep", "near"], ["out"]),
        ],
        "strange": [
            *boolean,
            *steps,
            n("Equal", ["q", "k"], ["e"]),
            n("Not", ["e"], ["ne"]),
            n("And", ["keep", "ne"], ["out"]),
        ],
    }[kind]
    return load(
        [*nodes, n("Gather", ["table", "input_ids"], ["embedded"])],
        {**weights, "table": np.zeros((50, 2), np.float32)},
        ["embedded"],
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("additive", MaskKind(padding=True)),
        ("boolean", MaskKind(padding=True)),
        ("causal", MaskKind(padding=True, causal=True)),
        ("window", MaskKind(padding=True, window=2)),
    ],
)
def test_masks_are_recognized_by_what_they_compute(kind: str, expected: MaskKind) -> None:
    model = mask_model(kind)
    values = ir.convenience.create_value_mapping(model.graph)
    assert classify(Prober(model, 50), values["out"], values["attention_mask"], 64) == expected


def blocking(low: float, *, chosen: bool) -> ir.Model:
    """Return a graph with the mask `(1 - attention_mask) * low`, or, where `chosen`, `Where(attention_mask, 0, low)`."""
    n = helper.make_node
    weights = {"one": np.float32(1), "nothing": np.float32(0), "low": np.float32(low), "axes": np.array([1, 2])}
    product = [n("Cast", ["attention_mask"], ["f"], to=1), n("Sub", ["one", "f"], ["d"]), n("Mul", ["d", "low"], ["m"])]
    choice = [n("Cast", ["attention_mask"], ["f"], to=9), n("Where", ["f", "nothing", "low"], ["m"])]
    nodes = [*(choice if chosen else product), n("Unsqueeze", ["m", "axes"], ["out"])]
    table = {"table": np.zeros((50, 2), np.float32)}
    return load([*nodes, n("Gather", ["table", "input_ids"], ["embedded"])], {**weights, **table}, ["embedded"])


def kind_of(model: ir.Model) -> MaskKind | None:
    values = ir.convenience.create_value_mapping(model.graph)
    return classify(Prober(model, 50), values["out"], values["attention_mask"], 64)


@pytest.mark.parametrize("low", [-1e4, -65504.0, float(np.finfo(np.float32).min), -np.inf])
@pytest.mark.parametrize("chosen", [False, True])
def test_whatever_number_blocks_is_a_mask(low: float, chosen: bool) -> None:
    """Older versions of transformers add -10000; infinity cannot be multiplied by 0."""
    if chosen or np.isfinite(low):
        assert kind_of(blocking(low, chosen=chosen)) == MaskKind(padding=True)


@pytest.mark.parametrize("low", [-5.0, -100.0, 5.0])
def test_a_small_number_at_padding_blocks_nothing_and_is_named(low: float) -> None:
    """It makes masked keys count less, which a mask cannot say."""
    with pytest.raises(SourceError, match="'out' mixes"):
        kind_of(blocking(low, chosen=True))


def test_a_mask_of_no_known_kind_is_named() -> None:
    model = mask_model("strange")
    values = ir.convenience.create_value_mapping(model.graph)
    with pytest.raises(SourceError, match="out"):
        classify(Prober(model, 50), values["out"], values["attention_mask"], 64)
