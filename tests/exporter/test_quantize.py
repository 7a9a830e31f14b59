"""Whole numbers in the canonical graph and in the artifact: against torch, against the float model, refused where they do not fit."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headway import Bundle
from headway.calibration.batches import Batch
from headway.calibration.rounding import nearest
from headway.errors import GateError, SourceError, TargetError, UsageError
from headway.exporter.check.lint import lint
from headway.exporter.compress.job import as_function
from headway.exporter.compress.rounding_plan import groups, look, plan, quantized
from headway.exporter.compress.sensitivity import Effect, effects, mixed
from headway.exporter.export import export
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant
from headway.exporter.graph.quantized import fixed_scale, tokens_function
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.passes.neurons import RemoveNeurons
from headway.exporter.passes.quantize import (
    PER_TOKEN,
    MigrateScales,
    QuantizeMatrices,
    QuantizeTables,
    QuantizeValues,
    StoreHalf,
)
from headway.exporter.recipe.pass_specs import QuantizeSpec
from headway.exporter.recipe.recipe import Recipe, make_recipe
from headway.exporter.targets.ort.target import OrtTarget
from headway.kernels.cpu import library_path

from tests.support import models
from tests.support.variants import canonical

needs_kernels = pytest.mark.skipif(library_path() is None, reason="the kernels were not built: no C++ compiler")


def batches(count: int = 6, seed: int = 0) -> list[Batch]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        ids = rng.integers(5, models.VOCABULARY - 1, (4, 6 + 3 * i))
        mask = np.ones_like(ids)
        mask[1, 4:] = 0
        made.append(Batch({"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0}, np.arange(4) + 4 * i))
    return made


def answers(model: ir.Model, batch: Batch) -> np.ndarray:
    with torch.no_grad():
        found = TorchGraph(model)(batch.feeds)
    return next(iter(found.values())).numpy()[batch.mask]


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def model(bert: Path) -> ir.Model:
    return canonical(bert)


@pytest.fixture(scope="module")
def seen(model: ir.Model):
    return look(model, groups(read_anatomy(model)), batches(), source="s", text="t", seed=0)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 6),
    features=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    size=st.floats(-4, 4),
    shift=st.floats(-3, 3),
)
def test_rounding_by_token_is_the_same_in_torch_and_in_plain_onnx(
    rows: int, features: int, seed: int, size: float, shift: float
) -> None:
    x = (np.random.default_rng(seed).standard_normal((rows, features)) * 10**size + shift).astype(np.float32)
    x[0] = 0
    function = tokens_function()
    value = ir.Value(name="in", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["rows", features]))
    node = ir.node("QuantizeTokens", [value], domain="headway")
    node.outputs[0].name, node.outputs[0].type = "out", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([value], node.outputs, nodes=[node], opset_imports={"": 23, "headway": 1}, name="g")
    made = ir.Model(graph, ir_version=10, functions=[function])
    session = onnxruntime.InferenceSession(ir.to_proto(made).SerializeToString(), providers=["CPUExecutionProvider"])
    plain = session.run(None, {"in": x})[0]
    step = (np.maximum(x.max(1), 0) - np.minimum(x.min(1), 0)) / 255
    assert (np.abs(plain - x) <= 0.5 * step[:, None] * (1 + 1e-4) + 1e-30).all()
    with torch.no_grad():
        ours = TorchGraph(made)({"in": x})["out"].numpy()
    assert (np.abs(ours - plain) <= step[:, None] * 1.001).all() and np.mean(ours == plain) > 0.9


@settings(max_examples=60, deadline=None)
@given(low=st.floats(-1e4, 1e4), high=st.floats(-1e4, 1e4), signed=st.booleans())
def test_ranges_hold_zero_and_their_ends(low: float, high: float, signed: bool) -> None:
    low, high = min(low, high), max(low, high)
    scale, zero = fixed_scale(low, high, signed=signed)
    limits = (-127, 127) if signed else (0, 255)
    ends = [(n - int(zero)) * float(scale) for n in limits]
    assert scale > 0 and zero.dtype == (np.int8 if signed else np.uint8)
    assert ends[0] <= min(low, 0) + 0.51 * scale and ends[1] >= max(high, 0) - 0.51 * scale
    assert not signed or zero == 0


def test_weights_alone_are_the_graph_with_rounded_weights(model: ir.Model) -> None:
    names = [p.weight for b in read_anatomy(model).blocks for p in b.projections]
    made = model.clone()
    matrices = {n: nearest(constant(made.graph.initializers[n])) for n in names}  # type: ignore[arg-type]
    QuantizeMatrices(matrices)(made)
    plain = TorchGraph(model)
    for name in names:
        plain.weights[name] = torch.from_numpy(matrices[name].dequantized())
    for batch in batches(2):
        with torch.no_grad():
            wanted = next(iter(plain(batch.feeds).values())).numpy()[batch.mask]
        assert np.abs(answers(made, batch) - wanted).max() < 1e-5
    before, after = read_anatomy(model), read_anatomy(made)
    assert [b.attention.heads for b in after.blocks if b.attention] == [4] * 4
    assert sum(m.q.nbytes + m.scale.nbytes for m in matrices.values()) == after.nbytes - (
        before.nbytes - sum(4 * m.q.size for m in matrices.values())
    )


def test_tables_are_looked_up_as_rows(model: ir.Model) -> None:
    name = "embeddings.word_embeddings.weight"
    made = model.clone()
    table = constant(model.graph.initializers[name])
    assert table is not None
    QuantizeTables((name,))(made)
    scale = np.abs(table).max(1, keepdims=True) / 127
    plain = TorchGraph(model)
    plain.weights[name] = torch.from_numpy((np.rint(table / scale) * scale).astype(np.float32))
    batch = batches(1)[0]
    with torch.no_grad():
        wanted = next(iter(plain(batch.feeds).values())).numpy()[batch.mask]
    assert np.abs(answers(made, batch) - wanted).max() < 1e-5
    assert read_anatomy(made).embeddings[name] == table.shape


def test_migration_leaves_the_answers_alone(model: ir.Model, seen) -> None:
    made = model.clone()
    rng = np.random.default_rng(0)
    inputs = {str(p.input.name): p.in_features for b in read_anatomy(made).blocks for p in b.projections}
    one = MigrateScales({n: np.exp(rng.standard_normal(size)).astype(np.float32) for n, size in inputs.items()})
    one(made)
    assert one.report is not None and len(one.report.changes) == len(inputs) == 16
    assert sum("value projection" in v for v in one.report.changes.values()) == 4
    for batch in batches(2):
        assert np.abs(answers(made, batch) - answers(model, batch)).max() < 1e-4
    read_anatomy(made)


@pytest.mark.parametrize("activations", ["per-token", "static", "none"])
def test_artifact_computes_its_rounded_graph(model: ir.Model, seen, activations: str, tmp_path: Path) -> None:
    if activations == "per-token" and library_path() is None:
        pytest.skip("the kernels were not built: no C++ compiler")
    spec = QuantizeSpec(activations=activations)  # type: ignore[arg-type]
    chosen = plan(model, read_anatomy(model), spec)
    assert len(chosen.groups) == 16
    made, _ = quantized(model, chosen, seen, spec, activations=activations, signed=False)
    target = OrtTarget(kernels="auto" if activations == "per-token" else "stock")
    lowered = made.clone()
    counts = target.lower(lowered, read_anatomy(lowered))
    kinds = {
        "per-token": {
            "quantized_linear",
            "quantized_feed_forward",
            "packed_attention",
            "removed",
            "restored",
            "pooled",
            "norms",
        },
        "static": {"static_int8"},
        "none": {"weight_only"},
    }
    assert set(counts) - {"attention", "gelu"} <= kinds[activations]
    assert (
        counts.get("quantized_linear", 0)
        + 2 * counts.get("quantized_feed_forward", 0)
        + counts.get("static_int8", 0)
        + counts.get("weight_only", 0)
        == 24
    )
    target.build(lowered, tmp_path)
    runner = target.open(tmp_path, target.options(regroup=False), 1)
    for batch in batches(3, seed=5):
        rounded = answers(made, batch)
        given = next(iter(runner.run(batch.feeds).values()))[batch.mask]
        assert distance(given, rounded) < (1e-5 if activations == "none" else 0.02)
        assert distance(rounded, answers(model, batch)) < 0.05


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_matrices_that_project_positions_too_are_rounded(weights: str, tmp_path: Path) -> None:
    """DeBERTa's queries and keys share theirs with its table of relative positions, which is no value of the text."""
    model = canonical(models.make_model(tmp_path / "model", "deberta-v2"))
    spec = QuantizeSpec(weights=weights)  # type: ignore[arg-type]
    chosen = plan(model, read_anatomy(model), spec)
    seen = look(model, chosen.groups, batches(), source="s", text="t", seed=0)
    how = "static" if weights == "int8" else "none"
    made, _ = quantized(model, chosen, seen, spec, activations=how, signed=False)
    target, lowered = OrtTarget(), made.clone()
    target.lower(lowered, read_anatomy(lowered))
    target.build(lowered, tmp_path)
    runner = target.open(tmp_path, target.options(regroup=False), 1)
    for batch in batches(3, seed=5):
        rounded = answers(made, batch)
        assert distance(next(iter(runner.run(batch.feeds).values()))[batch.mask], rounded) < 0.02
        assert distance(rounded, answers(model, batch)) < (0.05 if weights == "int8" else 0.3)


@needs_kernels
def test_by_token_a_text_does_not_depend_on_its_neighbors(model: ir.Model, seen, tmp_path: Path) -> None:
    spec = QuantizeSpec()
    made, _ = quantized(
        model, plan(model, read_anatomy(model), spec), seen, spec, activations="per-token", signed=False
    )
    target = OrtTarget(kernels="auto")
    target.lower(made, read_anatomy(made))
    target.build(made, tmp_path)
    runner = target.open(tmp_path, target.options(regroup=False), 1)
    batch = batches(1, seed=9)[0]
    together = next(iter(runner.run(batch.feeds).values()))
    for row in range(4):
        n = int(batch.mask[row].sum())
        alone = next(iter(runner.run({k: v[row : row + 1, :n] for k, v in batch.feeds.items()}).values()))
        assert np.abs(together[row, :n] - alone[0]).max() < 2e-2  # one step of rounding here and there


def test_better_numbers_are_nearer(model: ir.Model, seen) -> None:
    """GPTQ against nearest at four bits, where rounding shows."""
    off = {}
    for rounding in ("gptq", "nearest"):
        spec = QuantizeSpec(weights="int4", block=16, rounding=rounding, tables=False)  # type: ignore[arg-type]
        chosen = plan(model, read_anatomy(model), spec)
        made, _ = quantized(model, chosen, seen, spec, activations="none", signed=False)
        off[rounding] = np.mean([distance(answers(made, b), answers(model, b)) for b in batches()])
    assert off["gptq"] < 0.8 * off["nearest"]


def test_int4_goes_into_nibbles_and_a_third_party_reads_the_same(model: ir.Model, seen, tmp_path: Path) -> None:
    spec = QuantizeSpec(weights="int4", block=16)
    chosen = plan(model, read_anatomy(model), spec)
    made, _ = quantized(model, chosen, seen, spec, activations="none", signed=False)
    target, lowered = OrtTarget(), made.clone()
    assert target.lower(lowered, read_anatomy(lowered))["int4"] == 24
    target.build(lowered, tmp_path)
    batch = batches(1)[0]
    given = next(iter(target.open(tmp_path, target.options(regroup=False)).run(batch.feeds).values()))[batch.mask]
    assert distance(given, answers(made, batch)) < 1e-4


def test_half_is_half(model: ir.Model) -> None:
    made = model.clone()
    StoreHalf()(made)
    batch = batches(1)[0]
    assert distance(answers(made, batch), answers(model, batch)) < 2e-3
    assert read_anatomy(made).nbytes < 0.56 * read_anatomy(model).nbytes
    big = model.clone()
    name = "encoder.layer.0.output.dense.weight"
    array = constant(big.graph.initializers[name])
    assert array is not None
    array = array.copy()
    array[0, 0] = 1e5
    big.graph.initializers[name].const_value = ir.Tensor(array, name=name)
    with pytest.raises(UsageError, match=name):
        StoreHalf()(big)


def test_uneven_and_split_models_are_quantized_too(bert: Path) -> None:
    from headway.exporter.passes.heads import RemoveHeads
    from headway.exporter.passes.lowrank import SplitMatrices

    made = canonical(bert)
    RemoveHeads({0: [1], 2: []})(made)
    RemoveNeurons({(1, 0): range(24)})(made)
    SplitMatrices({"encoder.layer.3.intermediate.dense.weight": 8})(made)
    spec = QuantizeSpec()
    chosen = plan(made, read_anatomy(made), spec)
    found = look(made, chosen.groups, batches(), source="", text="", seed=0)
    rounded, _ = quantized(made, chosen, found, spec, activations="per-token", signed=False)
    after = read_anatomy(rounded)
    assert [b.attention.heads if b.attention else 0 for b in after.blocks if b.attention] == [1, 4, 4]
    assert any(p.rank == 8 for b in after.blocks for p in b.projections)
    assert distance(answers(rounded, batches(1)[0]), answers(made, batches(1)[0])) < 0.05


def test_signed_values_have_zero_point_zero(model: ir.Model, seen) -> None:
    spec = QuantizeSpec(activations="static", tables=False)
    chosen = plan(model, read_anatomy(model), spec)
    made, _ = quantized(model, chosen, seen, spec, activations="static", signed=True)
    zeros = [n.inputs[2] for n in made.graph if n.op_type == "QuantizeLinear"]
    assert len(zeros) == 16
    assert all((array := constant(z)) is not None and array.dtype == np.int8 and not array.any() for z in zeros)


def test_what_cannot_be_rounded_is_refused_or_said(model: ir.Model, seen) -> None:
    with pytest.raises(UsageError, match="no such weight matrix"):
        QuantizeMatrices({"nowhere": nearest(np.ones((4, 4), np.float32))})(model.clone())
    with pytest.raises(UsageError, match="no matmul by a quantized weight"):
        QuantizeValues({"embeddings.LayerNorm": PER_TOKEN})(model.clone())
    with pytest.raises(UsageError, match=r"'encoder\.layer\.11'"):
        plan(model, read_anatomy(model), QuantizeSpec(keep=["encoder.layer.1", "encoder.layer.11"]))
    spec = QuantizeSpec(keep=["encoder.layer.1"])
    chosen = plan(model, read_anatomy(model), spec)
    assert len(chosen.groups) == 12
    assert chosen.left["encoder.layer.1.output.dense.weight"] == "kept in float by the recipe"
    made, _ = quantized(model, chosen, seen, spec, activations="per-token", signed=False)
    with pytest.raises(UsageError, match="quantized already"):
        plan(made, read_anatomy(made), spec)
    with pytest.raises(TargetError, match="kernels"):
        OrtTarget().lower(made, read_anatomy(made))
    with pytest.raises(UsageError, match="remove structure before"):
        RemoveNeurons({(0, 0): [1, 2]})(made)


@pytest.mark.parametrize(
    "passes, message",
    [
        ([{"kind": "quantize"}, {"kind": "split", "keep": 0.5}], "split behind quantize"),
        ([{"kind": "float16"}, {"kind": "remove_heads", "keep": {0: 1}}], "remove_heads behind float16"),
        ([{"kind": "quantize"}, {"kind": "quantize"}], "given twice"),
        ([{"kind": "float16"}, {"kind": "quantize"}], "put quantize in front"),
        ([{"kind": "quantize", "weights": "int4", "activations": "static"}], "weight-only"),
    ],
)
def test_orders_that_cannot_work_are_refused(passes: list, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_recipe("test", source="x", passes=passes)


def test_sensitivity_and_the_mixed_assignment(model: ir.Model, seen) -> None:
    spec = QuantizeSpec(weights="int4", block=16)
    chosen = plan(model, read_anatomy(model), spec)
    found = effects(model, chosen, seen, spec, batches(2), activations="none", signed=False)
    assert len(found) == 16 and all(e.error > 0 for e in found)
    worst = {e.group.name for e in sorted(found, key=lambda e: -e.error / e.group.cost)[:3]}

    def judge(one) -> tuple[float, list[str]]:
        names = [g.name for g in one.groups]
        return (2.0 if worst & {*names} else 0.5), names

    best = mixed(chosen, found, judge, 1.0)
    assert best is not None and {g.name for g in chosen.groups} - {g.name for g in best[0].groups} == worst
    assert best[1] == [g.name for g in best[0].groups]  # what was judged is handed over, not made again
    assert mixed(chosen, found, lambda _: (0.0, "made"), 1.0) == (chosen, "made")
    assert mixed(chosen, found, lambda _: (9.0, "made"), 1.0) is None
    assert isinstance(found[0], Effect)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_labeled(tmp_path_factory.mktemp("text") / "lines.jsonl", 120)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.make_model(tmp_path_factory.mktemp("classifier"), "bert", "text-classification", hidden_size=64)


@needs_kernels
def test_an_int8_bundle_end_to_end(classifier: Path, text: Path, tmp_path: Path) -> None:
    passes = [{"kind": "quantize", "search": True}]
    recipe = make_recipe("test", source=str(classifier), data=text, passes=passes, max_drop=50)
    done = export(recipe, tmp_path / "bundle")
    manifest = done.manifest
    assert manifest.parity["dtype"] == "int8" and manifest.session_options["kernels"]
    assert manifest.session_options["config"]["session.x64quantprecision"] == "1"
    assert manifest.compression is not None and manifest.compression["observations"]["samples"] > 50
    bundle = Bundle.open(tmp_path / "bundle")
    assert np.isfinite(bundle(["the price of bread"])["logits"]).all()
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "register_custom_ops_library" in card and "In float:" in card
    again = export(recipe, tmp_path / "again")
    for name in ("model.onnx", "model.onnx.data"):
        assert (done.path / name).read_bytes() == (again.path / name).read_bytes()
    assert [f.what for f in lint(done.path, "x86-avx2") if f.severity == "error"] == []
    assert any("cannot be loaded" in f.what for f in lint(done.path, "ort-mobile"))


def test_stock_int8_says_what_saturates(classifier: Path, text: Path, tmp_path: Path) -> None:
    recipe = make_recipe(
        "test", source=str(classifier), data=text, passes=[{"kind": "quantize"}], kernels="stock", max_drop=50
    )
    done = export(recipe, tmp_path / "bundle")
    assert done.manifest.lowering["static_int8"] == 12 and "kernels" not in done.manifest.session_options
    assert not [f for f in lint(done.path, "x86-avx2") if f.severity == "error"]
    bare = lint(done.path / "model.onnx", "x86-avx2")
    assert {f.where for f in bare if "saturate" in f.what} >= {"bert.encoder.layer.0.attention.self.query"}
    assert not [f for f in lint(done.path / "model.onnx", "x86-vnni") if f.severity == "error"]
    assert any("MatMulIntegerToFloat" in f.what for f in lint(done.path, "tensorrt"))
    with pytest.raises(UsageError, match="known: x86-avx2"):
        lint(done.path, "z80")


def test_a_drop_beyond_the_gate_writes_nothing(classifier: Path, text: Path, tmp_path: Path) -> None:
    passes = [{"kind": "quantize", "weights": "int4", "block": 32, "rounding": "nearest"}]
    recipe = make_recipe("test", source=str(classifier), data=text, passes=passes, tolerance=1e-12, max_drop=100)
    with pytest.raises(GateError):
        export(recipe, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def quantized_file(directory: Path, operators: list[str]) -> Path:
    """Return a file as ONNX Runtime's own tool writes it: QDQ pairs around every operator named."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    from tests.support.onnx_files import torchscript_file

    plain = torchscript_file(directory, "bert", 17, "sdpa")

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            feeds = [{"input_ids": rng.integers(5, 99, (2, 9)), "attention_mask": np.ones((2, 9), np.int64)}]
            self.left = iter(feeds * 3)

        def get_next(self) -> dict:
            return next(self.left, None)  # type: ignore[return-value]

    out = directory / "rounded.onnx"
    quantize_static(
        str(plain),
        str(out),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        op_types_to_quantize=operators,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    plain.unlink()
    return out


@pytest.mark.parametrize(
    "operators", [["MatMul"], ["MatMul", "Gather", "Add", "Softmax", "LayerNormalization", "Gemm"]]
)
def test_a_file_with_its_own_scales_keeps_them(operators: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    path = quantized_file(tmp_path / "source", operators)
    theirs = {str(v.name): v.const_value.numpy() for v in ir.load(path).graph.initializers.values() if v.const_value}
    done = export(Recipe(source=str(path)), tmp_path / "out")
    assert done.parity.dtype == "int8" and done.manifest.lowering["static_int8"] == 12
    ours = ir.load(done.path / "model.onnx").graph.initializers
    scale = ours["model.bert.encoder.layer.1.output.dense.weight_scale"].const_value
    assert scale is not None
    known = [a for n, a in theirs.items() if a.shape == scale.numpy().shape and n.endswith("_scale")]
    assert any(np.array_equal(scale.numpy(), a) for a in known)


def rounded_by_torch(directory: Path, seen_text: bool = True):
    """Return a classifier whose encoder layers carry torch.ao's FakeQuantize, as quantization-aware training leaves it."""
    import transformers
    from torch.ao import quantization as q

    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory).eval()

    class Rounded(torch.nn.Module):
        def __init__(self, linear: torch.nn.Linear) -> None:
            super().__init__()
            self.linear = linear
            self.values = q.FakeQuantize(q.MovingAverageMinMaxObserver, 0, 255, dtype=torch.quint8)
            self.weights = q.FakeQuantize(
                q.PerChannelMinMaxObserver, -127, 127, dtype=torch.qint8, qscheme=torch.per_channel_symmetric, ch_axis=0
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.linear(self.values(x), self.weights(self.linear.weight), self.linear.bias)

    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and "encoder" in name:
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, Rounded(module))
    if seen_text:
        torch.manual_seed(0)
        with torch.no_grad():
            for _ in range(3):
                model(input_ids=torch.randint(5, 99, (2, 9)))
    model.apply(q.disable_observer)
    return model, str(directory)


@pytest.mark.parametrize("seen_text", [True, False])
def test_a_model_trained_with_rounding_keeps_its_scales(
    classifier: Path, seen_text: bool, tmp_path: Path, monkeypatch
) -> None:
    factory = tmp_path / "made_here.py"
    factory.write_text(
        f"import sys\nsys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parent.parent)!r}]\n"
        "from pathlib import Path\nfrom test_quantize import rounded_by_torch\n"
        f"def build():\n    return rounded_by_torch(Path({str(classifier)!r}), {seen_text})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.delitem(__import__("sys").modules, "made_here", raising=False)
    recipe = Recipe(source="made_here:build", task="text-classification")
    if not seen_text:
        with pytest.raises(SourceError, match=r"layer\.0.*has no scale yet"):
            export(recipe, tmp_path / "out")
        return
    done = export(recipe, tmp_path / "out")
    assert done.manifest.lowering["static_int8"] == 12
    # A value half-way between two steps may go either way; scales are the learned ones to the bit.
    assert done.parity.outputs[0].max_abs < 5e-3
    ours = ir.load(done.path / "model.onnx").graph.initializers
    known = {v.const_value.numpy().tobytes() for v in ours.values() if v.const_value is not None}
    learned = [
        m.scale for n, m in rounded_by_torch(classifier)[0].named_modules() if n.endswith((".weights", ".values"))
    ]
    assert len(learned) == 24
    assert all(scale.numpy().tobytes() in known for scale in learned)


def test_runs_helper_is_the_graph(model: ir.Model) -> None:
    batch = batches(1)[0]
    assert np.array_equal(as_function(model)(batch.feeds)["last_hidden_state"][batch.mask], answers(model, batch))
