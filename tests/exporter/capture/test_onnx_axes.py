"""Which axes of a file's outputs are batch and sequence: found by running, whatever they are called."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from headway.errors import SourceError
from headway.exporter.capture.onnx_axes import find_axes, has_free_axes
from headway.exporter.source.source import Source

RANKS = {"input_ids": 2, "attention_mask": 2}


def source(**config: object) -> Source:
    return Source("onnx", "m.onnx", "feature-extraction", None, dict(config))


def axes_of(run, ranks=RANKS, **config: object):
    return find_axes(Path("m.onnx"), run, ranks, source(**config))


def test_axes_are_those_that_change_with_batch_and_length() -> None:
    def run(feeds):
        ids = feeds["input_ids"]
        return {"a": ids, "b": np.zeros((*ids.shape, 7)), "c": np.zeros((len(ids), 3)), "d": np.zeros(len(ids))}

    per_token = ("batch", "sequence")
    assert axes_of(run) == {"a": per_token, "b": (*per_token, 7), "c": ("batch", 3), "d": ("batch",)}


@pytest.mark.parametrize("longest", [2, 3, 4, 6, 7, 512])
def test_lengths_stay_within_what_the_model_takes(longest: int) -> None:
    seen = []

    def run(feeds):
        seen.append(feeds["input_ids"].shape)
        return {"hidden": np.zeros((*feeds["input_ids"].shape, 7))}

    assert axes_of(run, max_position_embeddings=longest) == {"hidden": ("batch", "sequence", 7)}
    assert {n for _, n in seen} <= set(range(1, longest + 1)) and len({n for _, n in seen}) == 2


def test_choices_are_an_axis_of_their_own() -> None:
    ranks = {"input_ids": 3, "attention_mask": 3}
    assert axes_of(lambda feeds: {"logits": feeds["input_ids"].sum(-1)}, ranks) == {"logits": ("batch", "choices")}


def test_the_ids_end_as_some_heads_need_them_to() -> None:
    def run(feeds):
        assert (feeds["input_ids"][:, -1] == 9).all() and (feeds["input_ids"][:, :-1] != 9).all()
        return {"logits": np.zeros((len(feeds["input_ids"]), 2))}

    assert axes_of(run, eos_token_id=9) == {"logits": ("batch", 2)}


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        (lambda b, n: (b, 4, n, n), r"\[batch, 4, sequence, sequence\]"),
        (lambda b, n: (n, b, 8), r"\[sequence, batch, 8\]"),
        (lambda b, n: (b * n, 8), r"\[\?, 8\]"),
        (lambda b, n: (b, n, n), r"\[batch, sequence, sequence\]"),
        (lambda b, n: (), r"\[\]"),
        (lambda b, n: (8,), r"\[8\]"),
    ],
)
def test_an_output_of_another_form_is_refused_by_name(shape, shown: str) -> None:
    def run(feeds):
        return {"odd": np.zeros(shape(*feeds["input_ids"].shape))}

    with pytest.raises(SourceError, match=rf"m\.onnx: its output 'odd' is {shown}, .*export the model without it"):
        axes_of(run)


@pytest.mark.parametrize(
    ("name", "shape", "free"),
    [
        ("input_ids", ["b", "s"], True),
        ("input_ids", [None, None], True),
        ("input_ids", [1, "s"], False),
        ("input_ids", None, False),
        ("words", ["b", "s"], False),
    ],
)
def test_only_inputs_without_fixed_sizes_are_run(name: str, shape: list | None, free: bool) -> None:
    given = helper.make_tensor_value_info(name, TensorProto.INT64, shape)
    graph = helper.make_graph([helper.make_node("Identity", [name], ["y"])], "g", [given], [given])
    assert has_free_axes(ir.from_proto(helper.make_model(graph))) == free
