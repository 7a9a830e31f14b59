"""`.ort` bundles against the stock graph that they are made from."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from headway import Bundle
from headway.errors import TargetError, UsageError
from headway.exporter.bench.bench_bundle import bench_bundle
from headway.exporter.export import Exported
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.targets.phones.ort_format import (
    read_ort,
)
from headway.exporter.targets.phones.ort_mobile import OPERATORS_FILE, OrtMobileTarget
from headway.exporter.targets.registry import target_of
from headway.exporter.verification import verify_bundle
from headway.manifest import Manifest

from tests.support.phones import export_mobile

TEXTS = ["the model runs", "a large language model with small heads and layers of bread", "rain"]


def test_outputs_are_those_of_the_stock_graph(mobile: Exported, bert_bundle: Exported) -> None:
    stock, phone = (Bundle.open(done.path, threads=1)(TEXTS) for done in (bert_bundle, mobile))
    for name, wanted in stock.items():
        np.testing.assert_allclose(phone[name], wanted, atol=1e-6)
    assert mobile.manifest.artifact == "model.ort"
    assert {p.name for p in mobile.path.iterdir()} & {"model.onnx", "model.onnx.data"} == set()
    assert mobile.artifact_bytes == (mobile.path / "model.ort").stat().st_size


def test_the_same_file_again(mobile: Exported, bert: Path, tmp_path: Path) -> None:
    """Nodes, tensors and outputs repeat exactly; the runtime writes one list of operators in an order of its own."""
    again = export_mobile(bert, tmp_path / "again")
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


def test_optimized_on_the_device_it_gives_the_same_outputs(mobile: Exported, bert: Path, tmp_path: Path) -> None:
    done = export_mobile(bert, tmp_path / "device", graph_optimization="device")
    assert done.manifest.session_options["config"] == {"session.enable_saved_runtime_optimizations": "1"}
    a, b = (Bundle.open(d.path)(TEXTS)["last_hidden_state"] for d in (mobile, done))
    np.testing.assert_allclose(a, b, atol=1e-6)
    assert "graph_optimization: device" in (done.path / "recipe.yaml").read_text()


def test_float16_is_half_the_bytes_and_embeddings_stay_half_until_they_are_read(
    mobile: Exported, bert: Path, tmp_path: Path
) -> None:
    half = export_mobile(bert, tmp_path / "half", dtype="fp16")
    assert half.manifest.parity["dtype"] == "float16" and half.parity.ok
    assert half.artifact_bytes < 0.7 * mobile.artifact_bytes
    file = read_ort(half.path / "model.ort")
    tables = [t for t in file.tensors.values() if "embeddings.weight" in t.name]
    assert tables and all(t.dtype == "float16" for t in tables)
    assert {n.op_type for t in tables for n in file.readers[t.name]} == {"Gather"}
    with pytest.raises(UsageError, match="bf16"):
        target_of(make_recipe("test", source="x", target="ort-mobile", dtype="bf16"))


def test_int8_matmuls_run_in_int8(rounded: Exported, mobile: Exported) -> None:
    operators = (rounded.manifest.engine or {})["operators"]
    assert operators["com.microsoft.MatMulIntegerToFloat"] == 6 * 4
    assert "ai.onnx.DequantizeLinear" not in operators and "ai.onnx.MatMul" not in operators
    file = read_ort(rounded.path / "model.ort")
    weights = [t for t in file.tensors.values() if t.name.endswith("query.weight.unsigned")]
    assert len(weights) == 4 and {t.dtype for t in weights} == {"uint8"}
    assert rounded.manifest.compression is not None
    assert rounded.manifest.anatomy["embeddings"]["embeddings.word_embeddings.weight"] == [60, 32]
    assert verify_bundle(rounded.path, None, None).ok


def test_verify_and_bench_take_it(mobile: Exported, bert_bundle: Exported, tmp_path: Path) -> None:
    assert verify_bundle(mobile.path, None, None).ok
    result = bench_bundle(mobile.path, [str(bert_bundle.path)], threads=1, data=None, rounds=3, out=tmp_path / "bench")
    assert len(result.contestants) == 2 and result.files and all(p.is_file() for p in result.files)


def test_a_graph_with_an_unknown_operator_is_not_built(bert_bundle: Exported, tmp_path: Path) -> None:
    model = ir.load(bert_bundle.path / "model.onnx")
    node = next(n for n in model.graph if n.op_type == "Gelu")
    node.op_type = "NoSuchGelu"
    with pytest.raises(TargetError, match=r"module encoder\.layer\.0\.\S+:.*com\.microsoft\.NoSuchGelu"):
        OrtMobileTarget().build(model, tmp_path)


def test_the_manifest_reads_back(mobile: Exported) -> None:
    assert Manifest.read(mobile.path).engine == mobile.manifest.engine
