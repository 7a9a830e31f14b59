"""What the recipe says about each pass, and what follows from it."""

import pytest
from pydantic import ValidationError

from headway.exporter.recipe.pass_specs import (
    FitSpec,
    HalfSpec,
    QuantizeSpec,
    RecoverSpec,
    RemoveBlocksSpec,
    RemoveHeadsSpec,
    RemoveNeuronsSpec,
    RemovePartsSpec,
    RepairSpec,
    ShareSpec,
    SplitSpec,
    TrimVocabularySpec,
)


def test_blocks_that_lose_their_attention() -> None:
    assert RemoveHeadsSpec(keep={0: [1], 1: [], 2: 0, 3: 2}).bare_blocks == [1, 2]
    assert RemovePartsSpec(attentions=[2], feed_forwards=[0]).bare_blocks == [2]
    assert RemoveNeuronsSpec(keep={0: []}).bare_blocks == []


def test_blocks_that_are_named_by_number() -> None:
    named = [RemoveHeadsSpec(keep={}), RemoveNeuronsSpec(keep={}), RemovePartsSpec(), RemoveBlocksSpec(every=2)]
    assert all(spec.names_blocks for spec in named)
    assert not RemoveBlocksSpec(least_important=1).names_blocks and not SplitSpec(keep=0.5).names_blocks


def test_what_a_pass_is_there_for() -> None:
    assert FitSpec(speedup=2).needs_latency and not FitSpec(flops=0.5).needs_latency
    assert ShareSpec(tolerance=0.1).approximates and not ShareSpec().approximates
    assert [s.saves for s in (RepairSpec(), RecoverSpec(minutes=1), ShareSpec(), QuantizeSpec())] == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("values", [{}, {"every": 2, "blocks": [1]}, {"every": 2, "least_important": 1}])
def test_blocks_are_chosen_in_one_way(values: dict) -> None:
    with pytest.raises(ValidationError, match="give one of blocks, every and least_important"):
        RemoveBlocksSpec(**values)


def test_passes_over_all_weights_stand_once_in_a_recipe() -> None:
    assert HalfSpec.once and QuantizeSpec.once and FitSpec.once and TrimVocabularySpec.once
    assert HalfSpec.role == "store"


def test_a_spec_is_frozen_and_strict() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RepairSpec().method = "scale"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        ShareSpec(tolerence=0.1)  # type: ignore[call-arg]
