"""Headway's own attention in graphs for TensorRT: parity with the plugin nodes computed by their reference, and by the kernels
themselves in Triton's interpreter; what is refused; the plan that builds such an engine. No engine is built or run here."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from headway.bundle import Bundle
from headway.engine import build as tensorrt_build
from headway.engine.build import BuildSettings, build_engine
from headway.engine.profiles import Profile
from headway.errors import TargetError, UsageError
from headway.exporter.check.parity import TOLERANCE
from headway.exporter.export import Exported, export
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import insert, nodes, replace
from headway.exporter.graph.typed_graph import TypedGraph
from headway.exporter.passes.heads import RemoveHeads
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.targets.tensorrt import lower as tensorrt
from headway.exporter.targets.tensorrt.plugin_nodes import OwnKernels
from headway.exporter.targets.tensorrt.target import NUMPY_NAMES
from headway.exporter.targets.tensorrt.typed_runner import TypedRunner
from headway.exporter.verification import verify_bundle

import triton_worker as worker
from tests.support import models
from tests.support.quantized import quantize
from tests.support.variants import canonical as of_directory

LONGEST = 64


@pytest.fixture(scope="session")
def canonical(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ir.Model]:
    """Return a fresh canonical model with heads 16 wide: padding alone (bert), a position bias (mpnet), windows (modernbert)."""

    @cache
    def source(family: str) -> Path:
        layers = {} if family == "bert" else models.soonest(family)  # as many as `plan` has: one trace for both
        return models.make_model(tmp_path_factory.mktemp(family) / "m", family, hidden_size=64, **layers)

    return lambda family: of_directory(source(family))


def batch(model: ir.Model, lengths: tuple[int, ...] = (40, 7, 23)) -> dict[str, np.ndarray]:
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.random.default_rng(0).integers(5, 99, mask.shape)
    known = {"input_ids": ids, "attention_mask": mask}
    return {str(v.name): known.get(str(v.name), np.zeros_like(ids)) for v in model.graph.inputs}


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """Return the first output at real positions."""
    return next(iter(TypedGraph(model)(feeds).values())).detach().numpy()[feeds["attention_mask"].astype(bool)]


def lowered(model: ir.Model, dtype: str, feeds: dict[str, np.ndarray]) -> tensorrt.Lowered:
    return tensorrt.lower(model, read_anatomy(model), dtype, [feeds], kernels=OwnKernels(LONGEST))


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        ("bert", "fp32"),
        ("bert", "fp16"),
        ("bert", "bf16"),
        pytest.param("mpnet", "fp16", marks=pytest.mark.slow),
        ("modernbert", "fp16"),
        ("uneven", "fp16"),
    ],
)
def test_parity_with_the_plugin_nodes_computed_by_their_reference(family: str, dtype: str, canonical) -> None:
    model = canonical("bert" if family == "uneven" else family)
    if family == "uneven":
        RemoveHeads({0: [0, 2, 3], 1: [1]})(model)
    feeds = batch(model)
    wanted = run(model, feeds)
    counts = lowered(model, dtype, feeds)
    own = [n for n in model.graph if n.domain == "headway"]
    assert counts.kernels is not None and counts.attention == counts.kernels.attentions == len(own)
    biased = {"mpnet": len(own), "modernbert": len(own) // 2}.get(family, 0)
    assert sum(n.op_type == "PaddedAttentionBias" for n in own) == biased
    assert nodes(model.graph, "Softmax", "Attention") == []
    assert {n.outputs[0].dtype for n in own} == {tensorrt.DTYPES[dtype]}
    assert len({n.inputs[3] for n in own}) == 1  # lengths are found once
    difference = float(np.abs(run(model, feeds) - wanted).max())
    assert difference <= TOLERANCE[NUMPY_NAMES[dtype]] * max(1.0, float(np.abs(wanted).max()))


def test_the_kernel_itself_gives_the_outputs_of_its_reference(interpreted: Callable[..., Any], canonical) -> None:
    """Run in Triton's interpreter, on the inputs of the plugin nodes and with their attributes."""
    for family in ("bert", "modernbert"):
        model = canonical(family)
        feeds = batch(model, (9, 20))
        lowered(model, "fp16", feeds)
        graph = TypedGraph(model)
        node = [n for n in model.graph if n.domain == "headway"][-1]
        results = graph.run(graph.feeds(feeds), [*node.inputs, *node.outputs])  # type: ignore[list-item]
        q, k, v, lengths, *bias = (results[x].float().numpy() for x in node.inputs)  # type: ignore[index]
        heads, scale, causal = (node.attributes[name].value for name in ("heads", "scale", "causal"))
        given = (q, k, v, lengths.astype(np.int32), heads, scale, bias[0] if bias else None, bool(causal), "float16")
        got = interpreted(worker.attention, *given, (16, 16))
        np.testing.assert_allclose(got, results[node.outputs[0]].double().numpy(), atol=2e-3)
        assert bool(bias) == (family == "modernbert" and node.op_type.endswith("Bias"))


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_padding_before_text_gives_no_number_at_all(family: str, canonical) -> None:
    model = canonical(family)
    feeds = batch(model)
    lowered(model, "fp16", feeds)
    mask = feeds["attention_mask"]
    assert np.isfinite(run(model, feeds)).all()
    assert np.isnan(run(model, feeds | {"attention_mask": np.where(np.arange(40) == 2, 0, mask)})).all()
    left = feeds | {"attention_mask": mask[:, ::-1].copy()}
    wrong = np.isnan(run(model, left)).all(axis=1)
    assert wrong[40:].all() and not wrong[:40].any()  # the first text has no padding


def test_int8_probabilities_keep_both_matmuls_and_have_the_plugins_softmax(canonical) -> None:
    model, stock = canonical("bert"), canonical("bert")
    feeds = batch(model)
    quantize(model, feeds)
    quantize(stock, feeds)
    counts = lowered(model, "fp16", feeds)
    tensorrt.lower(stock, read_anatomy(stock), "fp16", [feeds])
    assert counts.kernels is not None and (counts.kernels.softmaxes, counts.attention_int8) == (2, 2)
    assert len(nodes(model.graph, "MaskedSoftmaxBias")) == 2
    got, wanted = run(model, feeds), run(stock, feeds)
    assert np.linalg.norm(got - wanted) < 0.05 * np.linalg.norm(wanted)  # bytes that fall to the other side


def test_what_the_kernels_do_not_compute_is_named(canonical) -> None:
    model = canonical("bert")
    feeds = batch(model)
    node = nodes(model.graph, "Attention")[0]
    for name in ("q_num_heads", "kv_num_heads"):
        node.attributes[name] = ir.AttrInt64(name, 8)
    with pytest.raises(TargetError, match=r"encoder\.layer\.0\.attention.*64/8 wide, 16 to 128.*--kernels stock"):
        lowered(model, "fp16", feeds)
    model = canonical("bert")
    anatomy = read_anatomy(model)
    first, *rest = anatomy.blocks
    assert first.attention is not None
    first = dataclasses.replace(first, attention=dataclasses.replace(first.attention, disentangled=True))
    anatomy = dataclasses.replace(anatomy, blocks=(first, *rest))
    with pytest.raises(TargetError, match="disentangled"):
        tensorrt.lower(model, anatomy, "fp16", [feeds], kernels=OwnKernels(LONGEST))
    for settings in (
        BuildSettings(kernels=True, hardware="ampere+"),
        BuildSettings(kernels=True, version_compatible=True),
    ):
        with pytest.raises(TargetError, match="for the GPU that builds"):
            tensorrt_build.check_settings("tensorrt", settings)


@pytest.mark.skipif(tensorrt_build.missing("tensorrt_rtx") is not None, reason="TensorRT-RTX is not here")
def test_build_check_not_an_execution_check_of_what_is_around_the_plugins(canonical, tmp_path: Path) -> None:
    """TensorRT-RTX has no plugins: sums that read the same inputs replace them."""
    model = canonical("modernbert")
    lowered(model, "fp16", batch(model))
    for node in [n for n in model.graph if n.domain == "headway"]:
        q, k, v, lengths, *bias = node.inputs
        out = node.outputs[0]
        total = q
        for i, value in enumerate((k, v)):
            total = insert(node, "Add", [total, value], name=f"{out.name}.{i}", dtype=out.dtype, shape=out.shape)
        for i, value in enumerate((lengths, *bias)):
            cast = insert(node, "Cast", [value], name=f"{out.name}.cast{i}", dtype=out.dtype, to=int(out.dtype))
            largest = insert(
                node, "ReduceMax", [cast], name=f"{out.name}.max{i}", dtype=out.dtype, shape=[], keepdims=0
            )
            total = insert(node, "Add", [total, largest], name=f"{out.name}.sum{i}", dtype=out.dtype, shape=out.shape)
        replace(out, total)
        model.graph.remove(node, safe=True)
    ir.save(model, tmp_path / "m.onnx")
    profile = [Profile((1, 1), (4, 16), (8, 32))]
    build_engine("tensorrt_rtx", tmp_path / "m.onnx", profile, BuildSettings(("sm_89",)), tmp_path / "m.engine")
    assert (tmp_path / "m.engine").stat().st_size > 0


# --- the plan -----------------------------------------------------------------------------------------------------------

TENSORRT = '''
"""TensorRT's own plugin machinery, from its lean bindings. What parses and builds only reads which plugins the graph asks for."""

import json, sys
from types import SimpleNamespace

import numpy as np
import onnx
import tensorrt_lean_bindings as lean

sys.modules["tensorrt"] = lean
lean.ITensor, lean.TensorFormat = type("ITensor", (), {}), SimpleNamespace(LINEAR="LINEAR")
import tensorrt_lean_bindings.plugin

lean.plugin = sys.modules["tensorrt.plugin"] = tensorrt_lean_bindings.plugin


class OnnxParser:
    def __init__(self, network, log): ...

    def parse_from_file(self, path):
        """Each plugin is made as the real parser makes it: by namespace and type, with the fields that its creator names."""
        made = []
        for node in onnx.load(path, load_external_data=False).graph.node:
            values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if "plugin_namespace" not in values:
                continue
            creator = lean.get_plugin_registry().get_creator(node.op_type, "1", values["plugin_namespace"].decode())
            kinds = {lean.PluginFieldType.INT32: np.int32, lean.PluginFieldType.FLOAT32: np.float32}
            kinds |= {lean.PluginFieldType.INT64: np.int64, lean.PluginFieldType.FLOAT64: np.float64}
            fields = [lean.PluginField(f.name, np.array([values[f.name]], kinds[f.type]), f.type) for f in creator.field_names]
            ask = lean.QuickPluginCreationRequest.STRICT_AOT
            plugin = creator.create_plugin(
                node.op_type, "headway", lean.PluginFieldCollection(fields), lean.TensorRTPhase.BUILD, ask
            )
            made.append({"type": type(plugin).__name__, **plugin.attrs})
        loaded = [m for m in ("torch", "onnxruntime", "triton") if m in sys.modules]
        print(json.dumps({"made": made, "headway": sys.modules["headway"].__file__, "loaded": loaded}))
        return True


lean.OnnxParser = OnnxParser
lean.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
lean.HardwareCompatibilityLevel = SimpleNamespace(NONE=0)
lean.BuilderFlag = SimpleNamespace(TF32="tf32")
lean.ProfilingVerbosity = SimpleNamespace(DETAILED=1)
config = SimpleNamespace(
    create_timing_cache=lambda known: SimpleNamespace(serialize=lambda: b"timed"),
    set_timing_cache=lambda cache, ignore_mismatch: True,
    add_optimization_profile=lambda profile: 0,
    set_flag=print,
    clear_flag=lambda flag: None,
)
shapes = SimpleNamespace(set_shape=lambda *shape: None)
network = SimpleNamespace(num_inputs=1, num_layers=3, get_input=lambda i: SimpleNamespace(name="input_ids"))
lean.Builder = lambda log: SimpleNamespace(
    create_network=lambda flags: network,
    create_builder_config=lambda: config,
    create_optimization_profile=lambda: shapes,
    build_serialized_network=lambda n, c: memoryview(b"vtrt the engine"),
)
'''


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("plan")
    source = models.make_model(folder / "m", hidden_size=64)
    recipe = Recipe(source=str(source), target="tensorrt", dtype="fp16", kernels="custom", engine={"plan": True})
    return export(recipe, folder / "bundle")


def test_the_bundle_says_that_no_engine_was_built(plan: Exported) -> None:
    assert plan.parity.ok and plan.manifest.parity["dtype"] == "float16"
    assert plan.manifest.engine is not None
    checked = plan.manifest.engine["checked"]
    assert "plugin nodes were computed by their reference" in checked and "not executed" in checked
    assert plan.manifest.lowering["attention_plugin"] == 2
    assert not (plan.path / "build.sh").exists()  # trtexec cannot be told of these plugins
    assert verify_bundle(plan.path, None, None).ok
    with pytest.raises(TargetError, match=r"not built yet.*build_engine\.py"):
        Bundle.open(plan.path)
    runner = TypedRunner(plan.path / "model.onnx")
    ids = np.full((1, 4), 7)
    with pytest.raises(UsageError, match="row 0: padding stands before a token"):
        runner.run({"input_ids": ids, "attention_mask": np.array([[0, 1, 1, 1]]), "token_type_ids": 0 * ids})


def test_the_script_declares_the_plugins_and_needs_nothing_but_what_it_carries(plan: Exported, tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is published for Linux only")
    pytest.importorskip("tensorrt_lean_bindings", reason="the lean bindings are published for Linux on x86-64 only")
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.py").write_text(TENSORRT)
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import runpy; "
               f"runpy.run_path({str(plan.path / 'build_engine.py')!r}, run_name='__main__')"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    wanted = {"type": "_TemplateAOTPlugin", "heads": 4, "head_dim": 16, "scale": 0.25, "causal": 0}
    assert said["made"] == [wanted, wanted]
    assert said["headway"] == str(plan.path / "builder" / "headway" / "__init__.py")
    assert said["loaded"] == ["triton"]
    record = json.loads((plan.path / "model.json").read_text())
    assert record["kernels"] and record["bytes"] == 15
    manifest = json.loads((plan.path / "headway.json").read_text())
    assert manifest["files"]["model.engine"]["bytes"] == 15 and manifest["engine"]["library"] == "tensorrt"
    assert list(plan.path.rglob("__pycache__")) == []


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from headway.kernels import tensorrt_plugin

    def register() -> None:
        raise ModuleNotFoundError("No module named 'triton'", name="triton")

    monkeypatch.setattr(tensorrt_plugin, "register", register)
    with pytest.raises(TargetError, match=r"need triton.*pip install 'triton==3\.6\.0'"):
        tensorrt_build.declare_kernels()
