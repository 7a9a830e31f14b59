"""The typed graphs for TensorRT: parity computed for real, and what is refused."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.errors import TargetError
from headway.exporter.graph.edit import nodes
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.graph.typed_graph import TypedGraph
from headway.exporter.targets.tensorrt import lower as tensorrt
from headway.exporter.targets.tensorrt.int8_check import problems_of
from headway.exporter.targets.tensorrt.layer_names import module_values

from tests.support.quantized import quantize
from tests.support.typed_graphs import FAMILIES, batch, lowered, run, variants, within
from tests.support.variants import rounded

PAIRS = [(family, kind) for family in FAMILIES for kind in ("fp32", "fp16", "bf16", "int8+fp32", "int8+fp16")]


def quick(family: str, kind: str) -> bool:
    return family == "bert" or (
        family in ("albert", "mpnet", "modernbert", "deberta-v2") and kind in ("fp16", "int8+fp16")
    )


@pytest.mark.parametrize(
    ("family", "kind"), [pytest.param(*pair, marks=() if quick(*pair) else pytest.mark.slow) for pair in PAIRS]
)
def test_typed_graph_agrees_with_the_canonical_one_computed_for_real(family: str, kind: str, canonical) -> None:
    model = canonical(family)
    feeds = batch(model)
    dtype = variants(model, kind, feeds)
    wanted = run(model, feeds)
    counts = lowered(model, dtype, feeds)
    got = run(model, feeds)
    assert counts.attention == len(nodes(model.graph, "Softmax")) > 0
    assert {n.domain for n in model.graph} == {""} and model.graph.opset_imports[""] == 20
    low = tensorrt.DTYPES[dtype]
    assert all(n.outputs[0].dtype == low for n in nodes(model.graph, "MatMul"))
    if "int8" in kind:
        # A value at the border between two integers falls to either side: what is left is steps, not roundings.
        assert np.linalg.norm(got - wanted) < 0.05 * np.linalg.norm(wanted)
        assert counts.attention_int8 == counts.attention and problems_of(model.graph) == []
    else:
        assert within(dtype, got, wanted)


@pytest.mark.parametrize("kind", ["uneven", "low-rank"])
def test_pruned_and_split_graphs_keep_parity(kind: str, canonical) -> None:
    model = canonical("bert")
    feeds = batch(model)
    dtype = variants(model, kind, feeds)
    wanted = run(model, feeds)
    lowered(model, dtype, feeds)
    assert within(dtype, run(model, feeds), wanted)
    if kind == "uneven":
        assert {n.name for n in model.graph.initializers.values() if str(n.name).startswith("split_heads")} == {
            "split_heads_1",
            "split_heads_2",
        }


@pytest.fixture(scope="module")
def both(canonical) -> tuple[ir.Model, ir.Model]:
    """Return a canonical model and its typed graph in float16."""
    typed = canonical("bert")
    lowered(typed, "fp16", batch(typed))
    return canonical("bert"), typed


@settings(max_examples=15, deadline=None)
@given(texts=st.integers(1, 4), length=st.integers(1, 40), seed=st.integers(0, 99))
def test_parity_holds_at_any_shape_and_mask(
    texts: int, length: int, seed: int, both: tuple[ir.Model, ir.Model]
) -> None:
    model, typed = both
    feeds = batch(model, texts, length, seed)
    wanted, got = run(model, feeds), run(typed, feeds)
    assert within("fp16", got, wanted)


def test_float32_in_onnxruntime_and_in_torch_are_the_same(canonical, tmp_path: Path) -> None:
    for family in ("bert", "mobilebert"):
        model = canonical(family)
        feeds = batch(model)
        wanted = run(model, feeds)
        lowered(model, "fp32", feeds)
        ir.save(model, tmp_path / "m.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
        got = session.run(None, feeds)[0][feeds["attention_mask"].astype(bool)]
        assert within("fp32", got, wanted)


def test_the_padding_bias_is_not_spread_over_the_queries(canonical) -> None:
    model = canonical("bert")
    lowered(model, "fp16", batch(model))
    masked = [n for n in nodes(model.graph, "Add") if str(n.name).endswith(".masked")]
    assert masked and all([*n.inputs[1].shape][1:3] == [1, 1] for n in masked)
    assert len({n.inputs[1] for n in masked}) == 1


def test_two_masks_together_still_fit_float16(canonical) -> None:
    model = canonical("modernbert")
    feeds = batch(model)
    wanted = run(model, feeds)
    precision = lowered(model, "fp16", feeds).precision
    assert precision is not None and "range" not in precision.in_float32.values()
    assert within("fp16", run(model, feeds), wanted)


def test_queries_are_scaled_before_they_are_quantized(canonical) -> None:
    model = canonical("bert")
    feeds = batch(model)
    quantize(model, feeds)
    lowered(model, "fp32", feeds)
    for product in [n for n in nodes(model.graph, "MatMul") if str(n.name).endswith(".scores")]:
        back = product.inputs[0].producer().inputs[0].producer().inputs[0].producer()  # Transpose, Reshape
        assert back.op_type == "DequantizeLinear"
        assert back.inputs[0].producer().inputs[0].producer().op_type == "Mul"


def test_the_scale_of_probabilities_survives_saving(canonical, tmp_path: Path) -> None:
    model = canonical("bert")
    feeds = batch(model)
    quantize(model, feeds)
    ir.save(model, tmp_path / "model.onnx")
    again = ir.load(tmp_path / "model.onnx")
    direct, counts = lowered(model, "fp32", feeds), lowered(again, "fp32", feeds)
    assert counts.attention_int8 == direct.attention_int8 == counts.attention > 0
    assert np.array_equal(run(again, feeds), run(model, feeds))


def test_another_runtimes_operator_is_named(canonical) -> None:
    model = canonical("bert")
    value = module_values(model.graph)["encoder.layer.0.output.dense"]
    model.graph.insert_after(value.producer(), ir.node("FastGelu", [value], domain="com.microsoft", name="odd"))
    with pytest.raises(TargetError, match=r"'odd' \(com\.microsoft\.FastGelu\)"):
        lowered(model, "fp32", batch(model))


def test_activations_quantized_per_token_are_refused_with_the_way_out(canonical) -> None:
    model, _ = rounded(canonical("bert"))
    with pytest.raises(TargetError, match=r"per token.*ask for static ranges"):
        lowered(model, "fp16", batch(model))


def test_torch_reads_what_the_graph_says(canonical) -> None:
    """TypedGraph does not change the values of the canonical graph itself."""
    model = canonical("bert")
    feeds = batch(model)
    a, b = (next(iter(g(model)(feeds).values())).detach().numpy() for g in (TorchGraph, TypedGraph))
    np.testing.assert_array_equal(a, b)
