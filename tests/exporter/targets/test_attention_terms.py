"""What is added to the scores of an attention, term by term."""

from pathlib import Path

import pytest

from headway.errors import TargetError
from headway.exporter.graph.edit import dims, nodes
from headway.exporter.targets.attention_terms import terms_of

from tests.support import models
from tests.support.variants import canonical


def test_padding_alone(bert: Path) -> None:
    terms = [terms_of(node) for node in nodes(canonical(bert).graph, "Attention")]
    assert len(terms) == 4 and len({t.mask for t in terms}) == 1
    assert dims(terms[0].mask) == [None, None]
    assert all((t.position, t.window, t.band) == (None, None, None) for t in terms)


def test_a_position_bias_is_found_before_it_is_spread_over_the_batch(tmp_path: Path) -> None:
    model = canonical(models.make_model(tmp_path / "model", "mpnet"))
    for node in nodes(model.graph, "Attention"):
        terms = terms_of(node)
        shape = dims(terms.position)
        assert terms.position is not None and shape is not None and shape[-3] == 4
        assert len(shape) == 3 or shape[0] == 1


def test_windows_are_told_by_their_reach(tmp_path: Path) -> None:
    model = canonical(models.make_model(tmp_path / "model", "modernbert"))
    terms = [terms_of(node) for node in nodes(model.graph, "Attention")]
    assert any(t.window is not None for t in terms)
    assert all((t.window is None) == (t.band is None) for t in terms)


def test_an_attention_without_a_padding_mask_is_named(bert: Path) -> None:
    node = nodes(canonical(bert).graph, "Attention")[0]
    node.resize_inputs(3)
    with pytest.raises(TargetError, match=rf"{node.name}.*no padding mask; export with --kernels stock"):
        terms_of(node)
