"""Packed tokens: the outputs of the padded graph, whatever passes did to the model; padding is restored only where needed."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from headway import Bundle
from headway.errors import TargetError
from headway.exporter.export import export
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant, initializer, insert, nodes, remove_unused, replace
from headway.exporter.graph.mask import PADDING_BIAS
from headway.exporter.passes.blocks import RemoveParts
from headway.exporter.passes.heads import RemoveHeads
from headway.exporter.passes.lowrank import SplitWeights
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.targets.ort import target as ort
from headway.exporter.targets.ort.packed import pack_tokens
from headway.kernels import cpu
from headway.runners.ort import OrtRunner

from tests.support import models
from tests.support.variants import canonical

pytestmark = pytest.mark.skipif(cpu.library_path() is None, reason="the kernels were not built: no C++ compiler")


@pytest.fixture(scope="module")
def bert_graph(bert: Path) -> ir.Model:
    return canonical(bert)


def runner(model: ir.Model, folder: Path, kernels: str) -> tuple[OrtRunner, dict[str, int]]:
    lowered = model.clone()
    lowering = ort.lower(lowered, read_anatomy(lowered), kernels).as_dict()
    folder.mkdir()
    ort.write(lowered, folder)
    return ort.open_runner(folder / ort.MODEL_FILE, ort.session_options(regroup=False, kernels=kernels)), lowering


def batch(lengths: list[int], longest: int | None = None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = len(lengths), longest or max(lengths)
    mask = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.int64)
    return {
        "input_ids": rng.integers(5, models.VOCABULARY, shape) * mask,
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, shape) * mask,
    }


def compare(model: ir.Model, folder: Path, feeds: dict[str, np.ndarray] | None = None) -> dict[str, int]:
    """Check that both lowerings give the same outputs at real tokens; return what packing did."""
    stock, _ = runner(model, folder / "stock", "stock")
    packed, lowering = runner(model, folder / "packed", "custom")
    for given in [feeds] if feeds else [batch([7, 1, 19, 12]), batch([5], 9), batch([8, 8])]:
        wanted, results = stock.run(given), packed.run(given)
        for name, value in wanted.items():
            assert results[name].shape == value.shape
            real = given["attention_mask"].astype(bool)
            by_token = value.shape[:2] == real.shape
            a, b = (x[real] if by_token else x for x in (value, results[name]))
            np.testing.assert_allclose(b, a, rtol=0, atol=2e-5)
    return lowering


def test_outputs_per_token_are_restored_once(bert_graph: ir.Model, tmp_path: Path) -> None:
    lowering = compare(bert_graph, tmp_path)
    assert lowering["packed_attention"] == 4
    assert (lowering["removed"], lowering["restored"], lowering["pooled"]) == (1, 1, 0)


def test_any_mask_that_the_graph_allows(bert_graph: ir.Model, tmp_path: Path) -> None:
    feeds = batch([9, 6, 9])
    feeds["attention_mask"][0, [2, 3]] = 0
    feeds["attention_mask"][1] = feeds["attention_mask"][1, ::-1]
    compare(bert_graph, tmp_path, feeds)
    empty = batch([4, 0, 2])
    packed, _ = runner(bert_graph, tmp_path / "more", "custom")
    assert not packed.run(empty)["last_hidden_state"][1].any()


def test_cut_and_split_models(bert_graph: ir.Model, tmp_path: Path) -> None:
    model = bert_graph.clone()
    RemoveHeads({0: [1], 1: [0, 2, 3]})(model)
    RemoveParts([2], [(3, 0)])(model)
    anatomy = read_anatomy(model)
    names = [p.weight for p in anatomy.blocks[0].projections[:4]]
    SplitWeights({n: 4 for n in names}, {}, {})(model)
    lowering = compare(model, tmp_path)
    assert lowering["packed_attention"] == 3


def quantized(model: ir.Model, *, dynamic: bool) -> ir.Model:
    """Every projection of the blocks quantized to int8, with ranges of activations found at run time or stored."""
    copied = model.clone()
    u8, i8, f32, i32 = ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.FLOAT, ir.DataType.INT32
    for node in nodes(copied.graph, "MatMul"):
        x, weight = node.inputs
        if x is None or weight is None or not weight.is_initializer() or weight.const_value is None:
            continue
        array, result = weight.const_value.numpy(), node.outputs[0]
        scale = np.float32(np.abs(array).max() / 127)
        stem = str(result.name)

        def put(name: str, value: np.ndarray, copied: ir.Model = copied, stem: str = stem) -> ir.Value:
            tensor = ir.tensor(value, name=f"{stem}.{name}")
            new = ir.Value(name=tensor.name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
            copied.graph.register_initializer(new)
            return new

        integers, factor = put("whole", np.rint(array / scale).astype(np.int8)), put("scale", scale)
        if dynamic:
            y = insert(node, "DynamicQuantizeLinear", [x], name=f"{stem}.range", outputs=3)
            bytes_, range_, zero = y.producer().outputs  # type: ignore[union-attr]
            for value, dtype, shape in ((bytes_, u8, x.shape), (range_, f32, []), (zero, u8, [])):
                value.type, value.shape = ir.TensorType(dtype), ir.Shape(list(shape or []))
            product = insert(
                node, "MatMulInteger", [bytes_, integers, zero], name=f"{stem}.int32", dtype=i32, shape=result.shape
            )
            number = insert(node, "Cast", [product], name=f"{stem}.number", dtype=f32, shape=result.shape, to=int(f32))
            both = insert(node, "Mul", [range_, factor], name=f"{stem}.both", dtype=f32, shape=[])
            last = insert(node, "Mul", [number, both], name=f"{stem}.scaled", dtype=f32, shape=result.shape)
        else:
            step, zero = put("step", np.float32(0.05)), put("zero", np.int8(3))
            at = put("at", np.int8(0))
            rounded = insert(node, "QuantizeLinear", [x, step, zero], name=f"{stem}.q", dtype=i8, shape=x.shape)
            back = insert(node, "DequantizeLinear", [rounded, step, zero], name=f"{stem}.dq", dtype=f32, shape=x.shape)
            matrix = insert(
                node, "DequantizeLinear", [integers, factor, at], name=f"{stem}.w", dtype=f32, shape=weight.shape
            )
            last = insert(node, "MatMul", [back, matrix], name=f"{stem}.product", dtype=f32, shape=result.shape)
        replace(result, last)
    remove_unused(copied)
    return copied


@pytest.mark.parametrize("dynamic", [False, True])
def test_int8_graphs(bert_graph: ir.Model, tmp_path: Path, dynamic: bool) -> None:
    """Without padding in the batch both graphs observe the same ranges, and quantize alike."""
    model = quantized(bert_graph, dynamic=dynamic)
    anatomy = read_anatomy(bert_graph)
    answers = []
    for kernels in ("stock", "custom"):
        variant = model.clone()
        by_name = {n.name: n for n in variant.graph}
        blocks = [b for b in anatomy.blocks if b.attention is not None]
        if kernels == "custom":
            packing = pack_tokens(variant, anatomy)
            assert packing.packed_attention == len(blocks)
            assert packing.removed <= 4
            assert packing.restored == 1
        else:
            lowering = ort._AttentionLowering(variant.graph)
            for block in blocks:
                assert block.attention is not None
                lowering.lower(by_name[block.attention.node.name])
        variant.graph.opset_imports["com.microsoft"] = 1
        variant.graph.sort()
        ort.write(variant, tmp_path)
        options = ort.session_options(regroup=False, kernels=kernels) | {"graph_optimization_level": "none"}
        opened = OrtRunner(tmp_path / ort.MODEL_FILE, options)
        answers.append(opened.run(batch([8, 8, 8]))["last_hidden_state"])
    # One step of rounding more or less is all that a different order of sums can make.
    assert np.median(np.abs(answers[0] - answers[1])) < 1e-5
    np.testing.assert_allclose(answers[0], answers[1], rtol=0, atol=0.1)


@pytest.mark.parametrize(
    ("family", "task"),
    [
        ("modernbert", "fill-mask"),
        pytest.param("mpnet", "question-answering", marks=pytest.mark.slow),
        pytest.param("mpnet", "text-classification", marks=pytest.mark.slow),
        pytest.param("modernbert", "token-classification", marks=pytest.mark.slow),
    ],
)
def test_position_bias_and_windows(family: str, task: str, tmp_path: Path) -> None:
    model = canonical(models.make_model(tmp_path / "source", family, task, **models.soonest(family)))
    lowering = compare(model, tmp_path)
    assert lowering["packed_attention"] == len(read_anatomy(model).blocks)
    packed, _ = runner(model, tmp_path / "again", "custom")
    feeds = batch([6, 6])
    feeds["attention_mask"][1, 2] = 0
    with pytest.raises(
        Exception, match=r"^headway.RemovePadding: .*row 1: .*pad there, or export .*attention_mask \[2, 6\]"
    ):
        packed.run(feeds)


@pytest.mark.parametrize(("axis", "packed"), [(-1, True), (2, True), (1, False)])
def test_what_goes_over_features_runs_on_packed_tokens(bert_graph: ir.Model, axis: int, packed: bool) -> None:
    """A softmax over the sequence needs whole sequences, padding among them."""
    model = bert_graph.clone()
    (states,) = model.graph.outputs
    node = ir.node("Softmax", [states], {"axis": axis}, name="softmax")
    result = node.outputs[0]
    result.name, result.shape, result.type = "probabilities", states.shape, states.type
    model.graph.append(node)
    model.graph.outputs[0] = result
    assert pack_tokens(model, read_anatomy(model)).restored == 1
    (softmax,) = (n for n in model.graph if n.name in ("softmax", "softmax.packed"))
    (given,) = softmax.inputs
    assert given is not None and given.shape is not None and len(given.shape) == (2 if packed else 3)
    assert [attr.value for attr in softmax.attributes.values()] == [-1 if packed else axis]


def test_pooled_outputs_never_restore(bert_classifier: Path, tmp_path: Path) -> None:
    lowering = compare(canonical(bert_classifier), tmp_path)
    assert (lowering["restored"], lowering["pooled"]) == (0, 1)


def test_tokens_are_summed_from_packed_ones_however_their_axis_is_counted(tmp_path: Path) -> None:
    model = canonical(models.make_sentence_model(tmp_path / "source", normalize=False))
    sums = [n for n in nodes(model.graph, "ReduceSum") if constant(n.inputs[1]) == 1]
    for node in sums:
        node.replace_input_with(1, initializer(model.graph, "from_the_end", np.array([-2], np.int64)))
    lowering = compare(model, tmp_path)
    assert lowering["pooled"] == 1 and sums


def test_a_batch_padded_on_the_left_is_refused_where_first_tokens_count(bert_classifier: Path, tmp_path: Path) -> None:
    """The first packed token of a row would be its first real one, and the graph's own first token is padding."""
    packed, _ = runner(canonical(bert_classifier), tmp_path / "packed", "custom")
    feeds = batch([6, 4])
    packed.run(feeds)
    left = {name: array.copy() for name, array in feeds.items()}
    for array in left.values():
        array[1] = array[1, ::-1]
    with pytest.raises(
        Exception, match=r"^headway.RemovePadding: .*row 1: .*pad there, or export .*attention_mask \[2, 6\]"
    ):
        packed.run(left)


def test_attentions_with_different_masks_are_refused(bert_graph: ir.Model) -> None:
    """Padding is removed once, by one mask."""
    model = bert_graph.clone()
    graph = model.graph
    other = ir.Value(name="other_mask", shape=graph.inputs[1].shape, type=graph.inputs[1].type)
    graph.inputs.append(other)
    last = nodes(graph, "Attention")[-1]
    as_float = insert(last, "Cast", [other], name=f"{PADDING_BIAS}.kept", dtype=ir.DataType.FLOAT, to=1)
    keys = insert(last, "Neg", [as_float], name=f"{PADDING_BIAS}.keys", dtype=ir.DataType.FLOAT)
    last.replace_input_with(3, keys)
    with pytest.raises(TargetError, match=r"different masks \['attention_mask', 'other_mask'\].*--kernels stock"):
        pack_tokens(model, read_anatomy(model))


def test_a_packed_bundle(tmp_path: Path) -> None:
    source = models.make_sentence_model(tmp_path / "source", dense=True)
    done = export(Recipe(source=str(source), kernels="custom"), tmp_path / "out")
    assert done.manifest.lowering["pooled"] == 1
    assert done.manifest.session_options["kernels"] is True
    texts = ["a model", "the train runs in the rain with a large number of words", "bread"]
    answers = Bundle.open(tmp_path / "out")(texts)["sentence_embedding"]
    stock = export(Recipe(source=str(source)), tmp_path / "stock")
    np.testing.assert_allclose(answers, Bundle.open(stock.path)(texts)["sentence_embedding"], rtol=0, atol=1e-5)
    assert "kernels: custom" in (tmp_path / "out" / "recipe.yaml").read_text()


def test_without_the_library_the_error_says_what_to_do(
    tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.exporter.targets.ort.target.library_path", lambda: None)
    with pytest.raises(TargetError, match=r"C\+\+ compiler"):
        export(Recipe(source=str(bert), kernels="custom"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_packed_is_refused(tmp_path: Path) -> None:
    model = canonical(models.make_model(tmp_path / "source", "deberta-v2"))
    with pytest.raises(TargetError, match=r"disentangled.*--kernels stock"):
        ort.lower(model, read_anatomy(model), "custom")
