"""What overflows float16 stays in float32."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from headway.exporter.graph.edit import constant, initializer, nodes
from headway.exporter.passes.cuts import set_array
from headway.exporter.targets.tensorrt.precision import assign

from tests.support.typed_graphs import batch, big, lowered, run, within


def test_what_overflows_float16_does_not_with_the_rules(canonical, tmp_path: Path) -> None:
    plain, ruled = canonical("bert"), canonical("bert")
    big(plain), big(ruled)
    feeds = batch(plain)
    wanted = run(plain, feeds)
    assert np.isfinite(wanted).all()
    lowered(plain, "fp16", feeds, rules=False)
    assert not np.isfinite(run(plain, feeds)).all()
    decided = lowered(ruled, "fp16", feeds)
    assert within("fp16", run(ruled, feeds), wanted)
    assert decided.precision is not None
    safe = {n for n, reason in decided.precision.in_float32.items() if reason == "range"}
    assert any("layer.0.output.dense" in n for n in safe) and not any("layer.1" in n for n in safe)
    # ONNX Runtime's CPU provider computes the same file in float32 and sees no overflow: its parity would prove nothing.
    ir.save(plain, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert np.isfinite(session.run(None, feeds)[0]).all()


def test_the_rules_keep_sums_norms_and_masks_in_float32(canonical) -> None:
    model = canonical("bert")
    decided = lowered(model, "fp16", batch(model)).precision
    assert decided is not None
    by_name = {str(n.name): n for n in model.graph}
    assert {by_name[n].op_type for n, reason in decided.in_float32.items() if reason == "operator"} == {
        "LayerNormalization",
        "Gelu",
    }
    assert {n.outputs[0].dtype for n in nodes(model.graph, "LayerNormalization", "Gelu")} == {ir.DataType.FLOAT}
    assert [o.dtype for o in model.graph.outputs] == [ir.DataType.FLOAT] * len(model.graph.outputs)


@pytest.mark.parametrize(
    ("seen", "reason"), [(30_000.0, None), (32_751.0, None), (32_752.0, "range"), (40_000.0, "range"), (1e9, "range")]
)
def test_an_activation_within_a_factor_of_2_of_the_largest_stays_in_float32(
    canonical, seen: float, reason: str | None
) -> None:
    """Text to come may go beyond what was seen: float16 ends at 65,504."""
    model = canonical("bert")
    node = next(n for n in nodes(model.graph, "MatMul") if "layer.1.output.dense" in str(n.inputs[1].name))  # type: ignore[union-attr]
    for value in (node.inputs[0], node.outputs[0]):
        typed = model.clone()
        decided = assign(typed, ir.DataType.FLOAT16, {str(value.name): seen})  # type: ignore[union-attr]
        assert decided.in_float32.get(str(node.name)) == reason
        assert (decided.count().get("float32_range", 0) > 0) is (reason is not None)


def test_position_embeddings_are_held_in_float16(canonical) -> None:
    """They do not depend on the text, as mask arithmetic does not; but they are weights, and half as many bytes."""
    model = canonical("bert")
    decided = lowered(model, "fp16", batch(model)).precision
    assert decided is not None
    tables = {n: v for n, v in model.graph.initializers.items() if n.endswith("_embeddings.weight")}
    assert len(tables) == 3 and {v.dtype for v in tables.values()} == {ir.DataType.FLOAT16}
    lookups = [n for n in nodes(model.graph, "Gather") if n.inputs[0] in tables.values()]
    assert len(lookups) == 3 and not {str(n.name) for n in lookups} & decided.in_float32.keys()
    assert "position" in decided.in_float32.values()


def test_a_weight_that_float16_cannot_hold_stays_in_float32(canonical) -> None:
    model = canonical("bert")
    weight = next(v for n, v in model.graph.initializers.items() if n.endswith("layer.1.attention.output.dense.bias"))
    array = np.array(constant(weight))
    array[0] = 1e5
    set_array(weight, array)
    feeds = batch(model)
    wanted = run(model, feeds)
    decided = lowered(model, "fp16", feeds).precision
    assert decided is not None and "constant" in decided.in_float32.values()
    assert np.isfinite(run(model, feeds)).all()
    np.testing.assert_allclose(run(model, feeds), wanted, atol=0.05)


def test_a_bound_that_float16_would_make_0_stays_in_float32(canonical) -> None:
    """The 1e-12 that keeps a norm from dividing by 0."""
    model = canonical("bert")
    graph, value = model.graph, model.graph.outputs[0]
    bound = initializer(graph, "least", np.array(1e-12, np.float32))
    node = ir.node("Max", [value, bound], name="bounded")
    node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = "bounded", value.type, value.shape
    graph.append(node)
    graph.outputs[0] = node.outputs[0]
    decided = lowered(model, "fp16", batch(model)).precision
    assert decided is not None and decided.in_float32["bounded"] == "constant"
    assert constant(node.inputs[1]) == np.float32(1e-12)
