"""Where a bundle spends its time: operators of the runtime's profile, found again in the modules of the source."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from headway.errors import SourceError
from headway.exporter.bench.attribution import ELSEWHERE, Difference, Spent, difference_of, places_of, profiled
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.runners.ort import OrtRunner

from tests.support import hand_made, models
from tests.support.command_line import Headway


@pytest.fixture(scope="module")
def found(bert_bundle: Exported) -> Difference:
    return difference_of(bert_bundle.path, bert_bundle.path)


def test_operators_are_found_in_the_modules_of_the_source(found: Difference) -> None:
    blocks = {name for name, *_ in found.by("block")}
    assert {f"encoder.layer.{i}" for i in range(4)} | {"embeddings"} <= blocks
    modules = {(one.module, one.kind) for one in found.spent[0]}
    for i in range(4):
        assert (f"encoder.layer.{i}.attention.self", "MultiHeadAttention") in modules
        assert {f"encoder.layer.{i}.intermediate.dense", f"encoder.layer.{i}.output.LayerNorm"} <= {
            m for m, _ in modules
        }
    known = sum(one.ms for one in found.spent[0] if one.module != ELSEWHERE)
    assert known > 0.8 * found.totals[0] > 0
    assert not any(one.kind == "If" for one in found.spent[0])


def test_sums_are_those_of_all_operators(found: Difference) -> None:
    for keys in (("block",), ("kind",), ("module", "kind")):
        rows = found.by(*keys)
        assert sum(row[1] for row in rows) == pytest.approx(found.totals[0])
        assert [abs(b - a) for _, a, b in rows] == sorted((abs(b - a) for _, a, b in rows), reverse=True)
    assert json.loads(json.dumps(found.to_json()))["first"] == "bert-bundle"


def test_a_difference_stands_where_it_is() -> None:
    first = (Spent("a.0", "a.0.x", "MatMul", 2.0), Spent("a.1", "a.1.x", "MatMul", 2.0))
    second = (Spent("a.0", "a.0.x", "MatMul", 2.0), Spent("a.1", "a.1.x", "Gemm", 5.0))
    found = Difference("one", "two", 1, (first, second))
    assert found.by("block") == [("a.1", 2.0, 5.0), ("a.0", 2.0, 2.0)]
    assert found.by("kind")[0] == ("Gemm", 0, 5.0) and found.totals == (4.0, 7.0)


def test_places_of_a_plain_graph(bert_bundle: Exported) -> None:
    places = places_of(bert_bundle.path / "model.onnx")
    assert sum(place.startswith("encoder.layer.2.") for place in places.values()) >= 10


def test_a_model_in_ort_format_is_profiled_without_its_modules(tmp_path: Path) -> None:
    """The runtime writes no `.onnx` file of what it runs there, in which modules could be looked up."""
    nodes = [
        helper.make_node("Gather", ["table.weight", "input_ids"], ["x"]),
        helper.make_node("MatMul", ["x", "dense.weight"], ["y"]),
    ]
    weights = {"table.weight": np.eye(5, 4, dtype=np.float32), "dense.weight": np.ones((4, 3), np.float32)}
    ir.save(hand_made.load(nodes, weights, ["y"], mask=False), tmp_path / "model.onnx")
    OrtRunner(tmp_path / "model.onnx", optimized=tmp_path / "model.ort")
    (tmp_path / "model.onnx").unlink()
    bundle: Any = SimpleNamespace(artifact="model.ort", session_options={})
    (spent,) = profiled([(tmp_path, bundle)], [{"input_ids": np.array([[1, 2]])}], 1, runs=2)
    assert {"Gather", "MatMul"} <= {one.kind for one in spent}
    assert {one.module for one in spent} == {ELSEWHERE}


def test_another_model_has_no_difference(bert_bundle: Exported, tmp_path: Path) -> None:
    other = export(
        Recipe(source=str(models.make_model(tmp_path / "other", num_hidden_layers=2, seed=5))), tmp_path / "out"
    )
    with pytest.raises(SourceError, match="not the same model"):
        difference_of(bert_bundle.path, other.path)


def test_the_command_prints_tables_or_json(headway: Headway, bert_bundle: Exported) -> None:
    done = headway("bench", bert_bundle.path, "--diff", bert_bundle.path)
    assert done.returncode == 0 and "by block" in done.stdout and "encoder.layer.3" in done.stdout
    assert (
        len(json.loads(headway("bench", bert_bundle.path, "--diff", bert_bundle.path, "--json").stdout)["spent"]) == 2
    )
    done = headway("bench", bert_bundle.path, "--diff", bert_bundle.path, "--save")
    assert done.returncode == 2 and "leave --against" in done.stderr
