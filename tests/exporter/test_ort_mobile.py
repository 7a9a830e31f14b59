"""`.ort` files against the stock graph they are made from, what they hold, and what phones would lack."""

import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnxruntime.capi import _pybind_state as state

from headway import Bundle
from headway.errors import SourceError, TargetError, UsageError
from headway.exporter.bench.bench_bundle import bench_bundle
from headway.exporter.check.lint import lint
from headway.exporter.compression import compress
from headway.exporter.export import Exported, export
from headway.exporter.passes.vocabulary import most_used
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.targets.phones.ort_format import (
    X86_ONLY_DOMAINS,
    OrtFile,
    OrtNode,
    Runtime,
    check_operators,
    full_build,
    read_ort,
)
from headway.exporter.targets.phones.ort_mobile import OPERATORS_FILE, OrtMobileTarget
from headway.exporter.targets.registry import target_of
from headway.exporter.verification import verify_bundle
from headway.manifest import Manifest

import models

TEXTS = ["the model runs", "a large language model with small heads and layers of bread", "rain"]
LINES = [" ".join(models.WORDS[i : i + n]) for n in (2, 4, 7) for i in range(0, 18)]


def made(source: Path, out: Path, **values: object) -> Exported:
    return export(make_recipe("test", source=str(source), target="ort-mobile", **values), out)


@pytest.fixture(scope="module")
def mobile(bert: Path, workshop: Path) -> Exported:
    return made(bert, workshop / "mobile-bundle")


@pytest.fixture(scope="module")
def rounded(bert: Path, workshop: Path) -> Exported:
    """int8, with a vocabulary of 60 tokens."""
    (workshop / "lines.txt").write_text("\n".join(LINES))
    recipe = make_recipe(
        "test",
        source=str(bert),
        target="ort-mobile",
        data=workshop / "lines.txt",
        passes=[{"kind": "trim_vocabulary", "tokens": 60}, {"kind": "quantize"}],
        calibration={"samples": 24},
        max_drop=100,
    )
    return compress(recipe, workshop / "rounded-bundle")


def test_it_answers_as_the_stock_graph(mobile: Exported, bert_bundle: Exported) -> None:
    stock, phone = (Bundle.open(done.path, threads=1)(TEXTS) for done in (bert_bundle, mobile))
    for name, wanted in stock.items():
        np.testing.assert_allclose(phone[name], wanted, atol=1e-6)
    assert mobile.manifest.artifact == "model.ort"
    assert {p.name for p in mobile.path.iterdir()} & {"model.onnx", "model.onnx.data"} == set()
    assert mobile.artifact_bytes == (mobile.path / "model.ort").stat().st_size


def test_the_same_file_again(mobile: Exported, bert: Path, tmp_path: Path) -> None:
    """Nodes, tensors and answers repeat exactly; the runtime writes one table of operators in an order of its own."""
    again = made(bert, tmp_path / "again")
    assert (again.path / OPERATORS_FILE).read_bytes() == (mobile.path / OPERATORS_FILE).read_bytes()
    first, second = (read_ort(done.path / "model.ort") for done in (mobile, again))
    assert first.nodes == second.nodes and first.tensors == second.tensors
    a, b = (Bundle.open(done.path, threads=1)(TEXTS)["last_hidden_state"] for done in (mobile, again))
    assert (a == b).all()


def test_every_byte_and_operator_is_accounted_for(mobile: Exported) -> None:
    record = mobile.manifest.engine
    assert record is not None
    sizes = record["sizes"]
    assert sum(v for k, v in sizes.items() if k != "total") == sizes["total"] == mobile.artifact_bytes
    tables = sum(4 * np.prod(s) for s in mobile.manifest.anatomy["embeddings"].values())
    assert sizes["tables"] == tables and sizes["structure"] > 0
    assert sum(record["operators"].values()) == len(read_ort(mobile.path / "model.ort").nodes)
    text = (mobile.path / OPERATORS_FILE).read_text()
    assert all(operator.rpartition(".")[2] in text for operator in record["operators"])
    assert str(mobile.path.parent) not in text
    assert record["runtime"] is None or record["runtime"]["bytes"] > 1e6


def test_left_to_the_device_it_answers_alike(mobile: Exported, bert: Path, tmp_path: Path) -> None:
    done = made(bert, tmp_path / "device", graph_optimization="device")
    assert done.manifest.session_options["config"] == {"session.enable_saved_runtime_optimizations": "1"}
    a, b = (Bundle.open(d.path)(TEXTS)["last_hidden_state"] for d in (mobile, done))
    np.testing.assert_allclose(a, b, atol=1e-6)
    assert "graph_optimization: device" in (done.path / "recipe.yaml").read_text()


def test_float16_is_half_the_bytes_and_tables_stay_half_until_they_are_read(
    mobile: Exported, bert: Path, tmp_path: Path
) -> None:
    half = made(bert, tmp_path / "half", dtype="fp16")
    assert half.manifest.parity["dtype"] == "float16" and half.parity.ok
    assert half.artifact_bytes < 0.7 * mobile.artifact_bytes
    found = read_ort(half.path / "model.ort")
    tables = [t for t in found.tensors.values() if "embeddings.weight" in t.name]
    assert tables and all(t.dtype == "float16" for t in tables)
    assert {n.op_type for t in tables for n in found.readers[t.name]} == {"Gather"}
    with pytest.raises(UsageError, match="bf16"):
        target_of(make_recipe("test", source="x", target="ort-mobile", dtype="bf16"))


def test_int8_is_multiplied_as_int8(rounded: Exported, mobile: Exported) -> None:
    operators = (rounded.manifest.engine or {})["operators"]
    assert operators["com.microsoft.MatMulIntegerToFloat"] == 6 * 4
    assert "ai.onnx.DequantizeLinear" not in operators and "ai.onnx.MatMul" not in operators
    found = read_ort(rounded.path / "model.ort")
    assert {t.dtype for t in found.tensors.values() if t.name.endswith("query.weight")} == {"int8"}
    assert rounded.manifest.compression is not None
    assert rounded.manifest.anatomy["embeddings"]["embeddings.word_embeddings.weight"] == [60, 32]
    assert verify_bundle(rounded.path, None, None).ok


def test_verify_and_bench_take_it(mobile: Exported, bert_bundle: Exported, tmp_path: Path) -> None:
    assert verify_bundle(mobile.path, None, None).ok
    result = bench_bundle(mobile.path, [str(bert_bundle.path)], threads=1, data=None, rounds=3, out=tmp_path / "bench")
    assert len(result.contestants) == 2 and result.files and all(p.is_file() for p in result.files)


def test_kernels_of_x86_alone_do_not_count() -> None:
    runtime = full_build()
    assert not [key for key in runtime.kernels if key[0] in X86_ONLY_DOMAINS]
    if platform.machine() == "x86_64":
        assert any(k.domain in X86_ONLY_DOMAINS for k in state.get_all_opkernel_def())
    layout = OrtNode("conv", "Conv", "com.microsoft.nchwc", 1, (), (), ())
    assert runtime.lacks(layout) == "com.microsoft.nchwc.Conv"


def test_an_operator_that_phones_lack_is_named_with_its_module(mobile: Exported) -> None:
    found, runtime = read_ort(mobile.path / "model.ort"), full_build()
    check_operators(found, runtime)
    without = Runtime({k: v for k, v in runtime.kernels.items() if k[1] != "LayerNormalization"}, runtime.schemas)
    with pytest.raises(TargetError, match=r"module embeddings\.LayerNorm:.*ai\.onnx\.LayerNormalization.*leave out"):
        check_operators(found, without)


def test_a_type_without_a_kernel_is_named(mobile: Exported) -> None:
    found, runtime = read_ort(mobile.path / "model.ort"), full_build()
    node = next(n for n in found.nodes if n.op_type == "Gelu")
    assert runtime.lacks(node) is None
    assert runtime.lacks(replace(node, types=("string",))) == "com.microsoft.Gelu on string"
    assert runtime.lacks(replace(node, version=99, domain="", op_type="LayerNormalization")) is None
    old = OrtNode("relu", "Attention", "", 7, ("x",), ("y",), ("float",))
    assert runtime.lacks(old) == "ai.onnx.Attention of version 7"


def test_a_graph_with_an_unknown_operator_is_not_built(bert_bundle: Exported, tmp_path: Path) -> None:
    model = ir.load(bert_bundle.path / "model.onnx")
    node = next(n for n in model.graph if n.op_type == "Gelu")
    node.op_type = "NoSuchGelu"
    with pytest.raises(TargetError, match=r"module encoder\.layer\.0\.\S+:.*com\.microsoft\.NoSuchGelu"):
        OrtMobileTarget().build(model, tmp_path)


def test_what_is_no_ort_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.ort").write_bytes(b"nonsense, but long enough")
    with pytest.raises(SourceError, match="not a file in ORT format"):
        read_ort(tmp_path / "model.ort")
    with pytest.raises(UsageError, match="graph_optimization is for target ort-mobile"):
        make_recipe("test", source="x", graph_optimization="device")
    with pytest.raises(UsageError, match="kernels"):
        target_of(make_recipe("test", source="x", target="ort-mobile", kernels="custom"))


def test_an_empty_file_has_no_bytes() -> None:
    assert OrtFile("1").kinds() == {"tables": 0, "matrices": 0, "vectors": 0}


def test_the_most_used_tokens_stay() -> None:
    vocabulary = {"[UNK]": 0, "a": 1, "##b": 2, "often": 3, "seldom": 4, "never": 5}
    tokenizer = {
        "model": {"type": "WordPiece", "vocab": vocabulary, "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
    }
    assert most_used(tokenizer, {3: 9, 4: 1}, 4) == [0, 1, 2, 3]
    assert most_used(tokenizer, {3: 9, 4: 1}, 5) == [0, 1, 2, 3, 4]
    with pytest.raises(UsageError, match="alone are 3"):
        most_used(tokenizer, {3: 9}, 2)


def test_the_manifest_reads_back(mobile: Exported) -> None:
    assert Manifest.read(mobile.path).engine == mobile.manifest.engine


def test_lint_reads_ort_files(mobile: Exported, rounded: Exported) -> None:
    """A .ort file runs as it stands: the session entry that makes target ort's sums exact cannot help it."""
    assert lint(mobile.path, "x86-avx2") == []
    found = lint(rounded.path, "x86-avx2")
    places = {f.where for f in found if f.severity == "error" and "can saturate" in f.what}
    assert "encoder.layer.0.attention.self.query" in places and len(places) == 6 * 4
    assert all("export for --target ort" in f.what for f in found)
    assert lint(rounded.path, "arm-dotprod") == [] == lint(rounded.path, "ort-mobile")
    assert lint(rounded.path / "model.ort", "x86-avx2") == found
