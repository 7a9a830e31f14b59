"""What overflows float16 stays in float32."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime

from headway.exporter.graph.edit import constant, initializer, nodes
from headway.exporter.passes.cuts import set_array

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
