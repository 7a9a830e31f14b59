"""What is added to the scores of an attention, term by term."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import TargetError
from headway.exporter.graph.edit import dims, initializer, insert, nodes
from headway.exporter.graph.mask import PADDING_BIAS
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


def test_attentions_of_another_form_are_named(bert: Path) -> None:
    """Heads that share keys and values, further inputs, a second position bias, one that differs by text."""
    source = canonical(bert)

    def refused(change: Callable[[ir.Model, ir.Node], None], why: str) -> None:
        model = source.clone()
        node = nodes(model.graph, "Attention")[0]
        change(model, node)
        with pytest.raises(TargetError, match=rf"{node.name}.*{why}.*; export with `kernels: stock` \(--kernels stock"):
            terms_of(node)

    def position(model: ir.Model, node: ir.Node, shape: list[int]) -> None:
        bias = initializer(model.graph, f"bias_{len(model.graph.initializers)}", np.zeros(shape, np.float32))
        both = insert(node, "Add", [node.inputs[3], bias], name=f"{PADDING_BIAS}.position.{bias.name}")
        node.replace_input_with(3, both)

    def twice(model: ir.Model, node: ir.Node) -> None:
        position(model, node, [1, 4, 9, 9])
        position(model, node, [1, 4, 8, 8])

    refused(lambda _, n: n.attributes.add(ir.AttrInt64("kv_num_heads", 2)), "differ in size")
    refused(lambda _, n: n.resize_inputs(5), "inputs beyond")
    refused(twice, "a second position bias")
    refused(lambda m, n: position(m, n, [3, 4, 9, 9]), "differs by text")


def test_an_attention_without_a_padding_mask_is_named(bert: Path) -> None:
    node = nodes(canonical(bert).graph, "Attention")[0]
    node.resize_inputs(3)
    with pytest.raises(
        TargetError, match=rf"{node.name}.*no padding mask; export with `kernels: stock` \(--kernels stock"
    ):
        terms_of(node)
