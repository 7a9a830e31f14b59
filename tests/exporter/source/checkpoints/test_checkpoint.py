"""A checkpoint is changed in copies, and knows its numbered layers."""

from pathlib import Path

import pytest
import torch

from headway.exporter.source.checkpoints.checkpoint import Checkpoint, layers_of
from headway.exporter.source.checkpoints.integers import Integers
from headway.exporter.source.checkpoints.state import given


def test_changes_are_copies_with_one_more_sentence() -> None:
    first = Checkpoint(Path("x"), {}, {"a": given(torch.ones(1)), "b": given(torch.ones(1))})
    second = first.changed("one", state=first.without(["a"])).changed("two", head_size=3)
    assert (first.sentences, second.sentences) == ((), ("one", "two"))
    assert (sorted(first.state), sorted(second.state), second.head_size) == (["a", "b"], ["b"], 3)


def test_the_list_that_holds_most_tensors_is_that_of_the_layers() -> None:
    names = [f"bert.encoder.layer.{i}.{part}.weight" for i in (0, 5, 11) for part in ("query", "key")]
    assert layers_of([*names, "head.0.weight", "pooler.weight"]) == ("bert.encoder.layer", [0, 5, 11])
    assert layers_of(["pooler.weight"]) is None


def test_names_change_wherever_a_checkpoint_has_them() -> None:
    tensor = given(torch.ones(1, 1))
    checkpoint = Checkpoint(
        Path("x"),
        {},
        {"a.weight": tensor},
        resized=frozenset(["a"]),
        replaced={"a": "no_norm"},
        integers={"a.weight": Integers((1, 1), lambda: pytest.fail("read"))},
        rounded_inputs={"a": 0.5},
    )
    renamed = checkpoint.renamed(lambda name: f"base.{name}")
    assert list(renamed.state) == list(renamed.integers) == ["base.a.weight"]
    assert renamed.resized == {"base.a"} and renamed.replaced == {"base.a": "no_norm"}
    assert renamed.rounded_inputs == {"base.a": 0.5}
