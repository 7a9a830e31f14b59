"""Quantization from source to artifact: against the float model, and against the graph with quantized weights."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from headway import Bundle
from headway.errors import GateError, UsageError
from headway.exporter.check.lint import lint
from headway.exporter.compress.rounding_plan import groups, look, plan, quantized
from headway.exporter.export import export
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.recipe.pass_specs import QuantizeSpec
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.targets.ort.target import OrtTarget
from headway.kernels.cpu import library_path

from tests.support import models
from tests.support.rounded import answers, batches, distance, needs_kernels
from tests.support.variants import canonical


@pytest.fixture(scope="module")
def model(bert: Path) -> ir.Model:
    return canonical(bert)


@pytest.fixture(scope="module")
def seen(model: ir.Model):
    return look(model, groups(read_anatomy(model)), batches(), source="s", text="t", seed=0)


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
