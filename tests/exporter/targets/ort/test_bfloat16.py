"""Weights in bfloat16: which are, what is left, and that nothing is written where the answers differ too much."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from headway import Bundle
from headway.errors import GateError, UsageError
from headway.exporter.export import export
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant
from headway.exporter.recipe.recipe import Recipe, make_recipe
from headway.exporter.targets.base import BFLOAT16_WEIGHTS
from headway.exporter.targets.ort.bfloat16 import lower_bfloat16
from headway.exporter.targets.ort.target import OrtTarget, ort_target, session_options
from headway.exporter.targets.registry import target_of
from headway.exporter.verification import verify_bundle
from headway.kernels.cpu import library_path

from tests.support.variants import answers, apart, canonical, feeds, rounded

needs_kernels = pytest.mark.skipif(library_path() is None, reason="no C++ compiler: kernels not built")


def halves(model: ir.Model) -> dict[str, ir.Value]:
    return {n: v for n, v in model.graph.initializers.items() if v.dtype == ir.DataType.BFLOAT16}


def test_all_weights_and_the_embeddings_of_tokens_are_rounded(bert: Path) -> None:
    model = canonical(bert)
    before = {n: constant(v) for n, v in model.graph.initializers.items()}
    counts = lower_bfloat16(model)
    assert (counts.bfloat16_linear, counts.bfloat16_feed_forward, counts.bfloat16_embeddings) == (4 * 4, 4, 1)
    for name, value in halves(model).items():
        np.testing.assert_array_equal(constant(value), before[name].astype(ml_dtypes.bfloat16))
    matrices = [n for n, v in model.graph.initializers.items() if len(v.shape) == 2 and min(v.shape) >= 16]
    assert set(halves(model)) == set(matrices) - {n for n in matrices if "position" in n}
    assert not any(n.op_type in ("MatMul", "Gelu") for n in model.graph)


def test_a_tied_weight_that_something_else_reads_stays_beside_the_rounded_one(bert: Path) -> None:
    model = canonical(bert)
    matmul = next(n for n in model.graph if n.op_type == "MatMul")
    weight = matmul.inputs[1]
    read = ir.node("Identity", [weight])
    read.outputs[0].name, read.outputs[0].type, read.outputs[0].shape = "copy", weight.type, weight.shape
    model.graph.append(read)
    model.graph.outputs.append(read.outputs[0])
    lower_bfloat16(model)
    assert model.graph.initializers[weight.name] is weight and f"{weight.name}.bfloat16" in halves(model)


def test_a_table_that_an_output_head_reads_too_is_stored_once(bert: Path) -> None:
    model = canonical(bert)
    table = next(v for n, v in model.graph.initializers.items() if n.endswith("word_embeddings.weight"))
    turned = ir.node("Transpose", [table])
    turned.outputs[0].name, turned.outputs[0].type = "turned", table.type
    turned.outputs[0].shape = ir.Shape(list(table.shape)[::-1])
    model.graph.append(turned)
    model.graph.outputs.append(turned.outputs[0])
    assert lower_bfloat16(model).bfloat16_embeddings == 0
    assert model.graph.initializers[table.name] is table and not any("word_embeddings" in n for n in halves(model))


def test_integers_stay_integers_and_the_rest_is_bfloat16(bert: Path, tmp_path: Path) -> None:
    model, _ = rounded(canonical(bert))
    anatomy = read_anatomy(model)
    kinds = OrtTarget(kernels="custom", dtype=BFLOAT16_WEIGHTS).lower(model, anatomy)
    assert kinds["quantized_feed_forward"] == 4 and "bfloat16_linear" not in kinds
    assert all(v.dtype != ir.DataType.BFLOAT16 or "embeddings" in n for n, v in model.graph.initializers.items())


@needs_kernels
def test_the_lowered_graph_gives_the_source_s_answers_within_rounding(bert: Path, tmp_path: Path) -> None:
    model = canonical(bert)
    given = feeds(padded=True)
    expected = answers(model, given)
    target = OrtTarget(kernels="custom", dtype=BFLOAT16_WEIGHTS)
    target.lower(model, read_anatomy(model))
    target.build(model, tmp_path)
    got = target.open(tmp_path, session_options(regroup=False, kernels="custom"), threads=1).run(given)
    assert 1e-5 < apart(expected, got, given) < 5e-2


@needs_kernels
def test_an_export_is_half_the_bytes_and_is_verified_again(bert: Path, tmp_path: Path) -> None:
    options = {"source": str(bert), "kernels": "custom"}
    whole = export(make_recipe("test", **options), tmp_path / "whole")
    done = export(make_recipe("test", **options, dtype="bf16"), tmp_path / "half")
    assert done.parity.ok and done.parity.dtype == BFLOAT16_WEIGHTS
    assert all(o.least_cosine == 0.9999 for o in done.parity.outputs if "logits" not in o.name)
    weights = [(p / "model.onnx.data").stat().st_size for p in (done.path, whole.path)]
    assert weights[0] < 0.7 * weights[1]
    assert done.manifest.engine is not None and "AMX" in done.manifest.engine["processors"]
    assert "stored as bfloat16" in (done.path / "README.md").read_text("utf-8")
    assert "dtype: bf16" in (done.path / "recipe.yaml").read_text("utf-8")
    assert verify_bundle(done.path, str(bert), None).ok
    Bundle.open(done.path)(["a text"])


@needs_kernels
def test_nothing_is_written_where_the_answers_differ_more_than_is_allowed(bert: Path, tmp_path: Path) -> None:
    recipe = make_recipe("test", source=str(bert), kernels="custom", dtype="bf16", tolerance=1e-4)
    with pytest.raises(GateError, match=r"differs from the source by .*Nothing was written"):
        export(recipe, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_what_does_not_go_together_is_refused_with_what_does() -> None:
    with pytest.raises(UsageError, match="--kernels custom"):
        target_of(Recipe(source="x", dtype="bf16", kernels="stock"))
    with pytest.raises(UsageError, match="fp16 is for GPUs; choose bf16"):
        target_of(Recipe(source="x", dtype="fp16"))
    with pytest.raises(UsageError, match="pass float16 stores the weights as float16"):
        target_of(make_recipe("test", source="x", dtype="bf16", data="x.txt", passes=[{"kind": "float16"}]))
    assert target_of(Recipe(source="x", dtype="bf16")).kernels == "auto"
    assert ort_target(Recipe(source="x", dtype="bf16", kernels="custom")).dtype == BFLOAT16_WEIGHTS
