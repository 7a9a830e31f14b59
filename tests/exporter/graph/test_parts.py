"""Attentions and feed-forwards, read from their nodes."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.errors import SourceError
from headway.exporter.graph import parts
from headway.exporter.graph.edit import insert, nodes
from headway.exporter.graph.parts import read_attention, read_feed_forward

from tests.support import models
from tests.support.hand_made import load
from tests.support.variants import canonical


def test_an_attention_has_four_projections(bert_model: ir.Model) -> None:
    part = read_attention(nodes(bert_model.graph, "Attention")[0])
    assert (part.heads, part.kv_heads, part.head_dim, part.merged, part.disentangled) == (4, 4, 8, False, False)
    ends = [p.weight.rsplit(".", 2)[-2] for p in (part.q, part.k, part.v, part.o)]
    assert ends == ["query", "key", "value", "dense"]


def test_heads_that_do_not_divide_the_columns_are_refused(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    node = nodes(model.graph, "Attention")[0]
    node.attributes["q_num_heads"] = ir.AttrInt64("q_num_heads", 5)
    with pytest.raises(SourceError, match="32 query columns do not divide into 5 heads"):
        read_attention(node)


def test_merged_and_gated_parts_are_told(tmp_path: Path) -> None:
    graph = canonical(models.make_model(tmp_path, "modernbert", num_hidden_layers=1)).graph
    assert read_attention(nodes(graph, "Attention")[0]).merged
    forwards = [f for n in nodes(graph, "Gelu") if (f := read_feed_forward(n)) is not None]
    assert [(f.gated, f.width, f.up.out_features, f.activation) for f in forwards] == [(True, 64, 128, "Gelu")]


def two_matrices(width: int = 6) -> ir.Model:
    """Return a feed-forward whose gate and up are two weights, with a residual: `x + down(relu(gate(x)) * up(x))`."""
    n, rng = helper.make_node, np.random.default_rng(0)
    sizes = {"table": (50, 4), "gate.weight": (4, 6), "up.weight": (4, width), "down.weight": (6, 4)}
    operators = [
        n("Gather", ["table", "input_ids"], ["x"]),
        n("MatMul", ["x", "gate.weight"], ["g"]),
        n("Relu", ["g"], ["a"]),
        n("MatMul", ["x", "up.weight"], ["u"]),
        n("Mul", ["a", "u"], ["m"]),
        n("MatMul", ["m", "down.weight"], ["d"]),
        n("Add", ["x", "d"], ["y"]),
    ]
    return load(operators, {k: rng.normal(size=s).astype(np.float32) for k, s in sizes.items()}, ["y"])


def test_a_gate_may_be_a_weight_of_its_own() -> None:
    (relu,) = nodes(two_matrices().graph, "Relu")
    forward = read_feed_forward(relu)
    assert forward is not None and forward.gated and forward.width == 6 and forward.factor is not None
    assert [p.weight for p in forward.projections] == ["gate.weight", "up.weight", "down.weight"]
    (relu,) = nodes(two_matrices(width=1).graph, "Relu")
    assert read_feed_forward(relu) is None  # one column for all neurons cannot be cut with them


def test_a_projection_of_another_width_is_refused(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    node = nodes(model.graph, "Attention")[0]
    key = node.inputs[1]
    assert key is not None
    repeated = insert(
        node, "Concat", [key, key], name="twice", axis=2, dtype=key.dtype, shape=[*list(key.shape or ())[:2], 64]
    )
    node.replace_input_with(1, repeated)
    with pytest.raises(SourceError, match=r"key\.weight' gives 32 columns, 64 are read"):
        read_attention(node)


def test_a_query_that_is_read_elsewhere_is_no_part_of_the_attention_alone(bert_model: ir.Model) -> None:
    """ConvBERT's convolution reads the queries, too: they cannot be cut with the heads."""
    model = bert_model.clone()
    node = nodes(model.graph, "Attention")[0]
    part = read_attention(node)
    model.graph.append(ir.node("Relu", [part.q.output], name="convolution"))
    with pytest.raises(SourceError, match=r"'convolution' \(Relu\) reads its query, key or value beside it"):
        read_attention(node)


def test_an_activation_of_a_head_is_no_feed_forward(bert_model: ir.Model) -> None:
    assert [read_feed_forward(n) for n in nodes(bert_model.graph, "Tanh")] == [None]  # the pooler's
    (forward,) = [read_feed_forward(n) for n in nodes(bert_model.graph, "Gelu")]
    assert forward is not None and (forward.width, forward.gated) == (64, False)


@pytest.mark.parametrize("kind", ["Tanh", "Add"])
def test_a_chain_of_elementwise_nodes_is_looked_at_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    length = 300
    operators = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("MatMul", ["x", "w"], ["x0"]),
    ]
    for i in range(length):
        sides = [f"x{i}", f"x{max(i - 1, 0)}"] if kind == "Add" else [f"x{i}"]
        operators.append(helper.make_node(kind, sides, [f"x{i + 1}"]))
        operators.append(helper.make_node("Tanh", [f"x{i + 1}"], [f"y{i}"]))
    operators.append(helper.make_node("MatMul", [f"x{length}", "v"], ["y"]))
    square = np.ones((4, 4), np.float32)
    model = load(operators, {"table": square, "w": square, "v": square}, ["y", f"y{length - 1}"], mask=False)
    looked_at = 0
    before = parts._neighbors

    def counted(value: ir.Value, forward: bool) -> list[ir.Node]:
        nonlocal looked_at
        looked_at += 1
        return before(value, forward)

    monkeypatch.setattr(parts, "_neighbors", counted)
    neighbors = parts.NearestMatmuls()
    assert [f for n in nodes(model.graph, "Tanh") if (f := read_feed_forward(n, neighbors)) is not None] == []
    assert looked_at < 20 * length
    first, last = (next(v for n in model.graph for v in n.outputs if v.name == name) for name in ("x1", f"x{length}"))
    assert {n.inputs[1].name for n in neighbors.before(last) or ()} == {"w"}
    assert {n.inputs[1].name for n in neighbors.behind(first) or ()} == {"v"}
