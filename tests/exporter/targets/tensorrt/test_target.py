"""Engines built by TensorRT-RTX, which builds for GPUs that are not there, and what is refused. No engine is run here."""

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.bundle import Bundle
from headway.engine import build as tensorrt_build
from headway.engine.build import BuildSettings, build_engine
from headway.engine.profiles import Profile, check_profiles, make_profiles
from headway.errors import SourceError, TargetError, UsageError
from headway.exporter.compress import rounding_plan as quantization
from headway.exporter.export import export
from headway.exporter.graph.edit import nodes
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.targets.tensorrt.int8_check import problems_of
from headway.exporter.targets.tensorrt.layer_names import module_values
from headway.runners import tensorrt as engine

from tests.support import models
from tests.support.typed_graphs import FAMILIES, GPUS, KINDS, PROFILE, QUICK, batch, lowered, needs_rtx, variants


def test_our_own_kernels_are_refused_rather_than_left_out(bert: Path, tmp_path: Path) -> None:
    for target, message in (("tensorrt-rtx", "has no plugins"), ("ort-cuda", "plain operators alone")):
        with pytest.raises(UsageError, match=message):
            export(Recipe(source=str(bert), target=target, kernels="custom"), tmp_path / "out")


def build_check(model: ir.Model, kind: str, directory: Path) -> dict:
    feeds = batch(model)
    dtype = variants(model, kind, feeds)
    lowered(model, dtype, feeds)
    assert problems_of(model.graph) == []
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


@pytest.mark.slow
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
    with pytest.raises(SourceError, match=r"model\.engine: incomplete \(\d+ bytes expected, 1000 there\)"):
        Bundle.open(done.path)
    with pytest.raises(TargetError, match=r"has 1000 bytes.*truncated.*build_engine\.py"):
        engine.open_engine(path, {})
    path.write_bytes(b"nonsense")
    with pytest.raises(TargetError, match="not a TensorRT engine"):
        engine.open_engine(path, {})


@pytest.mark.parametrize(
    ("asked", "engine"),
    [
        ({}, {"plan": True}),
        ({"activations": "none"}, {"plan": True}),
        ({"weights": "int4"}, {"plan": True}),
        pytest.param({}, {"gpus": ["sm_89"]}, marks=[needs_rtx, pytest.mark.slow]),
        pytest.param({"activations": "none"}, {"gpus": ["sm_89"]}, marks=[needs_rtx, pytest.mark.slow]),
        pytest.param({"weights": "int4"}, {"gpus": ["sm_89"]}, marks=[needs_rtx, pytest.mark.slow]),
    ],
)
def test_build_check_not_an_execution_check_of_a_recipe_that_quantizes(
    asked: dict, engine: dict, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From text to ranges to a typed graph that TensorRT fuses and the builder takes; embeddings, large ones too, stay float."""
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
    done = export(recipe, tmp_path / "out")
    graph = ir.load(done.path / "model.onnx").graph
    rounded = [n for n in nodes(graph, "MatMul") if (m := n.inputs[1].producer()) and m.op_type == "DequantizeLinear"]
    assert len(rounded) == 4 * 6 and problems_of(graph) == []
    assert {n.outputs[0].dtype for n in rounded} == {ir.DataType.FLOAT16}
    assert graph.initializers["embeddings.word_embeddings.weight"].dtype == ir.DataType.FLOAT16
    assert done.parity.ok and done.manifest.compression is not None
    assert done.manifest.parity["dtype"] == "int8"
    assert "CPU" in done.manifest.compression["measured_in"]
    if "gpus" in engine:
        assert done.manifest.engine is not None and done.manifest.engine["gpus"] == ["sm_89"]
