"""`.onnx` files as sources: external data, damage, and bundles' own artifacts."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.errors import SourceError
from headway.exporter.capture.onnx_file import OnnxReference
from headway.exporter.check.parity import Case
from headway.exporter.check.verification_text import answers
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.source import Source

from tests.support import hand_made
from tests.support.onnx_files import torchscript_file
from tests.support.refusals import refused


def test_corrupt_onnx(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x09corrupt" * 50)
    error = refused(tmp_path / "model.onnx", tmp_path / "out")
    assert error.exit_code == 3
    assert "model.onnx" in str(error)


def test_external_data(tmp_path: Path) -> None:
    path = torchscript_file(tmp_path / "source", "bert", 17, "sdpa")
    ir.save(ir.load(path), path, external_data="weights.bin", size_threshold_bytes=0)
    assert export(Recipe(source=str(path)), tmp_path / "out").parity.ok
    (tmp_path / "source" / "weights.bin").unlink()
    with pytest.raises(SourceError, match=r"weights\.bin"):
        export(Recipe(source=str(path)), tmp_path / "out2")


def test_our_own_artifact_is_refused_as_a_source(bert_bundle: Exported, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="runtime-specific"):
        export(Recipe(source=str(bert_bundle.path / "model.onnx")), tmp_path / "out")


def test_a_file_that_rounds_activations_is_measured_beside_what_is_read_of_it(tmp_path: Path) -> None:
    """Steps of 0.5 make 1.0 of 1.2, which is 0.2 off, and leave 2.0."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["y"]),
    ]
    weights = {"table": np.array([[1.2], [2.0]], np.float32), "step": np.float32(0.5), "zero": np.int8(0)}
    ir.save(hand_made.load(nodes, weights, ["y"], mask=False), tmp_path / "m.onnx")
    reference = OnnxReference(Source("onnx", str(tmp_path / "m.onnx"), "feature-extraction", tmp_path, {}))
    feeds = {"input_ids": np.array([[0, 1]]), "attention_mask": np.ones((1, 2), np.int64)}
    assert np.allclose(reference.run(feeds)["y"].ravel(), [1.2, 2.0])
    assert "the file itself differs from that by up to 0.2 where its largest output is 2 " in reference.judge
    [sentence] = answers(reference, [Case("one", feeds)]).sentences
    assert sentence.startswith(
        "the rounding of activations elsewhere than in front of matmuls is left out; the file itself differs"
    )
