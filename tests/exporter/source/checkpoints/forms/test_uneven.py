"""Uneven heads and widths are those of the tensors, in every family's names; sizes that contradict each other are refused."""

from pathlib import Path

import pytest
import torch

from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.source.source import open_source

from tests.checkpoints.pruned_heads import make_pruned
from tests.support import checkpoints, models, twins
from tests.support.refusals import edit_config

HEADS = {0: [1], 1: [0, 2, 3]}


@pytest.mark.parametrize(
    "family",
    [
        "bert",
        pytest.param("roberta", marks=pytest.mark.slow),
        pytest.param("electra", marks=pytest.mark.slow),
        pytest.param("distilbert", marks=pytest.mark.slow),
        pytest.param("mpnet", marks=pytest.mark.slow),
    ],
)
def test_heads_that_were_cut_away(family: str, tmp_path: Path) -> None:
    wanted = make_pruned(tmp_path, HEADS, family=family)
    source, graph = checkpoints.same_answers(tmp_path, wanted)
    assert source.sentences[0] == "heads 3, 1 of 4; feed-forward 64 of 64"
    assert [b.attention.heads for b in read_anatomy(graph).blocks if b.attention] == [3, 1]


def test_neurons_too_and_heads_that_no_config_lists(tmp_path: Path) -> None:
    wanted = make_pruned(tmp_path, {1: [0]}, {0: range(20)}, listed=False)
    source, graph = checkpoints.same_answers(tmp_path, wanted)
    assert source.sentences == ("heads 4, 3 of 4; feed-forward 44, 64 of 64",)
    assert [b.feed_forwards[0].width for b in read_anatomy(graph).blocks] == [44, 64]


def test_a_layer_without_any_head(tmp_path: Path) -> None:
    """Its tensors have no rows at all: what it added is its last bias."""
    wanted = make_pruned(tmp_path, {0: [0, 1, 2, 3]})
    source, graph = checkpoints.same_answers(tmp_path, wanted)
    assert source.sentences[0] == "heads 0, 4 of 4; feed-forward 64 of 64"
    assert len([b for b in read_anatomy(graph).blocks if b.attention]) == 1


def test_pruned_heads_that_the_tensors_contradict(tmp_path: Path) -> None:
    make_pruned(tmp_path, HEADS)
    edit_config(tmp_path, pruned_heads={"0": [1, 2], "1": [0, 2, 3]})
    assert "takes 2 of 4 heads from block 0 (1, 2), and its tensors have 3" in checkpoints.refusal(tmp_path)
    edit_config(tmp_path, pruned_heads={"0": [7], "1": [0, 2, 3]})
    assert "(7)" in checkpoints.refusal(tmp_path)
    edit_config(tmp_path, pruned_heads={"first": [1]})
    assert "lists of heads by block are expected" in checkpoints.refusal(tmp_path)


def test_a_bottleneck_has_heads_of_its_own_size(tmp_path: Path) -> None:
    models.make_model(tmp_path, "mobilebert")
    assert open_source(str(tmp_path)).sentences == ()


def test_relative_positions_of_heads_that_nothing_names_are_refused(tmp_path: Path) -> None:
    """Each head of MPNet has positions of its own: which are left is known from the config alone."""
    make_pruned(tmp_path, HEADS, family="mpnet", listed=False)
    assert "pruned_heads" in checkpoints.refusal(tmp_path)


@pytest.mark.parametrize("end", ["self.key", "output.dense"])
def test_sizes_that_contradict_each_other(end: str, tmp_path: Path) -> None:
    make_pruned(tmp_path, HEADS)
    state = checkpoints.tensors(tmp_path)
    name = f"encoder.layer.0.attention.{end}.weight"
    checkpoints.save(tmp_path, state | {name: torch.ones(16, 16)})
    assert f"{name} is [16, 16]" in checkpoints.refusal(tmp_path)


def test_parts_of_heads_are_refused(tmp_path: Path) -> None:
    make_pruned(tmp_path, {})
    edit_config(tmp_path, num_attention_heads=3, hidden_size=33)
    assert checkpoints.refusal(tmp_path)


def test_sizes_are_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    """A feed-forward that says to be wide on one side alone."""
    make_pruned(tmp_path, HEADS)
    state = checkpoints.tensors(tmp_path)
    name = "encoder.layer.0.intermediate.dense.weight"
    checkpoints.save(tmp_path, state | {name: torch.ones(4096, 32)})
    assert f"{name} is [4096, 32]" in checkpoints.refusal(tmp_path)


@pytest.mark.parametrize("changes", [{"num_attention_heads": 64}, {"hidden_size": 0}, {"head_dim": -8}])
def test_heads_without_features_are_refused(changes: dict, tmp_path: Path) -> None:
    """Found by the fuzzer: such a config ended in a division by zero."""
    models.make_model(tmp_path)
    edit_config(tmp_path, **changes)
    assert checkpoints.refusal(tmp_path)


SOUND = twins.Sound(
    lambda f: make_pruned(f, {0: [1], 1: [0, 2]}),
    "encoder.layer.0.attention.self.key.weight",
    {"encoder.layer.0.attention.self.query.weight_mask": torch.ones(24, 32)},
    ("encoder.layer.0.attention.self.key.bias",),
)
"""What `test_hostile_twins.py` makes twins of."""
