"""From 4-D heads to one axis for all heads, and back."""

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import SourceError
from headway.exporter.graph.edit import initializer, insert
from headway.exporter.graph.head_layout import complete_shape, joined_heads, merge_heads, permutation, split_heads
from headway.exporter.graph.probe import Prober

from tests.support.hand_made import HEAD_DIM, HEADS, WIDTH, decomposed, run


@pytest.fixture
def model() -> ir.Model:
    return decomposed("mul", "add", 0)


def values(model: ir.Model) -> dict[str, ir.Value]:
    return dict(ir.convenience.create_value_mapping(model.graph))


def test_what_was_split_into_heads_is_found_again(model: ir.Model) -> None:
    count = len(model.graph)
    source, heads = merge_heads(model.graph, values(model)["qh"], model.graph[-1])
    assert (source.name, heads) == ("q3", HEADS) and len(model.graph) == count


def test_heads_that_were_computed_are_joined_by_new_nodes(model: ir.Model) -> None:
    mixed = values(model)["o4"]
    merged, heads = merge_heads(model.graph, mixed, model.graph[-1])
    assert heads == HEADS and merged.shape is not None and merged.shape[-1] == WIDTH
    model.graph.outputs.append(merged)
    ids = np.arange(12).reshape(2, 6)
    wanted, got = run(model, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    assert np.array_equal(wanted, got)


def test_the_result_that_is_joined_already_is_found(model: ir.Model) -> None:
    mixed = values(model)["o4"]
    assert joined_heads(mixed, HEADS) is values(model)["out"]
    model.graph.append(ir.node("Relu", [mixed]))
    assert joined_heads(mixed, HEADS) is None


def test_readers_of_heads_get_them_back(model: ir.Model) -> None:
    ids = np.arange(12).reshape(2, 6)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    wanted = run(model, feeds)[0]
    mixed = values(model)["o4"]
    merged, heads = merge_heads(model.graph, mixed, next(n for n in model.graph if n.outputs[0].name == "ot"))
    readers = [u.node for u in mixed.uses() if u.node.outputs[0].name == "ot"]
    split_heads(model.graph, mixed, merged, heads)
    # What joins them still reads the heads themselves; the reader reads what was split again.
    joining = next(n for n in model.graph if n.op_type == "Transpose" and "sequence_first" in str(n.outputs[0].name))
    joining.replace_input_with(0, mixed)
    model.graph.sort()
    assert readers[0].inputs[0] is not mixed
    np.testing.assert_array_equal(run(model, feeds)[0], wanted)


def test_a_shape_that_is_not_known_is_probed(model: ir.Model) -> None:
    mixed = values(model)["o4"]
    mixed.shape = ir.Shape(["b", None, "s", None])
    with pytest.raises(SourceError, match="heads of 'o4' cannot be read"):
        merge_heads(model.graph, mixed, model.graph[-1])
    complete_shape(mixed, Prober(model, 50))
    assert mixed.shape is not None and [mixed.shape[1], mixed.shape[3]] == [HEADS, HEAD_DIM]


def test_a_transpose_without_an_order_has_none() -> None:
    assert permutation(ir.node("Transpose", [None])) == []
    assert permutation(ir.node("Transpose", [None], attributes={"perm": [1, 0]})) == [1, 0]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_sizes_that_the_joining_itself_reads_are_no_other_use(model: ir.Model, elsewhere: bool) -> None:
    """As `view(x.size(0), x.size(1), -1)` is traced; where another node reads them too, the heads are needed."""
    graph, turned = model.graph, values(model)["ot"]
    join = next(n for n in graph if n.outputs[0].name == "out")
    sizes = insert(join, "Shape", [turned], name="sizes")
    kept = initializer(graph, "places", np.array([0, 1]))
    width = initializer(graph, "rest", np.array([-1]))
    picked = insert(join, "Gather", [sizes, kept], name="picked")
    join.replace_input_with(1, insert(join, "Concat", [picked, width], name="target", axis=0))
    if elsewhere:
        graph.append(ir.node("Expand", [values(model)["x"], picked]))
    joined = joined_heads(values(model)["o4"], HEADS)
    assert joined is (None if elsewhere else values(model)["out"])
