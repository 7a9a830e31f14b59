"""Weights in a `.tflite` file: the integers of the graph, once for all signatures."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import TargetError
from headway.exporter.targets.phones import litert

from tests.support.litert import needed
from tests.support.variants import answers, apart, feeds, pruned, rounded


@needed
def test_integers_are_stored_unchanged_and_signatures_share_them(one_layer: ir.Model, tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    model, matrices = rounded(pruned(one_layer))
    litert.build(model, tmp_path, [8, 24], pad_id=0)
    content = (tmp_path / "model.tflite").read_bytes()
    for matrix in matrices.values():
        assert content.count(np.ascontiguousarray(matrix.q.T).tobytes()) == 1
        assert matrix.scale.tobytes() in content
    inputs = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner("tokens_8").get_input_details()
    assert {d["dtype"] for d in inputs.values()} == {np.int32}
    runner = litert.LiteRtTarget().open(tmp_path, {})
    for length in (3, 21):  # one in each signature
        given = feeds(3, length)
        assert apart(answers(model, given), runner.run(given), given) < 1e-3
    with pytest.raises(TargetError, match="25 tokens is longer than the 24"):
        runner.run(feeds(1, 25))


@needed
def test_two_lengths_cost_no_second_copy_of_the_weights(one_layer: ir.Model, tmp_path: Path) -> None:
    sizes = []
    for lengths in ([16], [8, 16]):
        folder = tmp_path / str(len(lengths))
        folder.mkdir()
        litert.build(one_layer, folder, lengths, pad_id=0)
        sizes.append((folder / "model.tflite").stat().st_size)
    weights = sum(v.const_value.nbytes for v in one_layer.graph.initializers.values() if v.const_value is not None)
    assert weights < sizes[0] and sizes[1] - sizes[0] < weights / 8
