"""What would saturate, overflow or be refused on another processor or runtime."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import SourceError
from headway.exporter.check.lint import lint
from headway.exporter.export import Exported
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.targets.ort.target import lower, write
from headway.exporter.targets.phones.ort_mobile import convert

from tests.support.quantized import quantize
from tests.support.variants import canonical, feeds


def test_lint_reads_ort_files(rounded: Exported, bert: Path, tmp_path: Path) -> None:
    """Nothing optimizes a .ort file on loading: the session entry that makes target ort's sums exact has no effect."""
    assert lint(rounded.path, "x86-avx2") == [] == lint(rounded.path / "model.ort", "x86-avx2")
    model = canonical(bert)
    quantize(model, feeds(), attention=False)
    lower(model, read_anatomy(model))
    write(model, tmp_path)
    convert(tmp_path / "model.onnx", tmp_path / "model.ort", "baked")
    findings = lint(tmp_path / "model.ort", "x86-avx2")
    places = {f.where for f in findings if f.severity == "error" and "can saturate" in f.what}
    assert "encoder.layer.0.attention.self.query" in places and len(places) == 6 * 4
    assert all("export it for --target ort-mobile" in f.what for f in findings)
    assert lint(tmp_path / "model.ort", "arm-dotprod") == [] == lint(tmp_path / "model.ort", "ort-mobile")


def test_a_node_without_its_inputs_is_a_damaged_file(tmp_path: Path) -> None:
    x = ir.Value(name="x")
    model = ir.Model(
        ir.Graph([x], [], nodes=[ir.Node("", "MatMul", [x], name="cut")], opset_imports={"": 21}), ir_version=10
    )
    ir.save(model, tmp_path / "m.onnx")
    with pytest.raises(SourceError, match=r"node 'cut' \(MatMul\) has 1 inputs, and needs at least 2"):
        lint(tmp_path / "m.onnx", "x86-avx2")


def test_weights_that_are_no_matrix_are_passed_over(tmp_path: Path) -> None:
    x, scale = ir.Value(name="x"), ir.Value(name="s")
    weight = ir.Value(name="w", const_value=ir.Tensor(np.ones(4, np.int8), name="w"))
    node = ir.Node("", "MatMulInteger", [x, weight], name="vector")
    model = ir.Model(
        ir.Graph([x, scale], [], nodes=[node], initializers=[weight], opset_imports={"": 21}), ir_version=10
    )
    ir.save(model, tmp_path / "m.onnx")
    assert lint(tmp_path / "m.onnx", "x86-avx2") == []
