"""Every family and task: exported, verified, fused as expected, anatomy as configured."""

from pathlib import Path

import onnx_ir as ir
import pytest

from headway.exporter.capture.capture import capture
from headway.exporter.export import export
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.canonical import canonicalize
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.source import open_source

from tests.support import models
from tests.support.supported import DISENTANGLED, PAIRS
from tests.support.variants import canonical


@pytest.mark.parametrize(("family", "task"), PAIRS)
def test_family_exports_with_parity(family: str, task: str, tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "source", family, task)
    done = export(Recipe(source=str(source)), tmp_path / "out")
    settings = models.FAMILIES[family][1]
    assert max(o.max_abs for o in done.parity.outputs) < 1e-4
    blocks = done.manifest.anatomy["blocks"]
    assert len(blocks) == settings.get("num_hidden_layers", settings.get("n_layers"))
    assert {b["heads"] for b in blocks} == {4}
    assert {w for b in blocks for w in b["intermediate_size"]} == {64}
    assert all(b["disentangled"] == (family in DISENTANGLED) for b in blocks)
    fused = done.manifest.lowering
    assert fused["attention"] == (0 if family in DISENTANGLED else len(blocks))


def test_shared_layers_are_stored_once(tmp_path: Path) -> None:
    source = models.make_model(
        tmp_path / "albert",
        "albert",
        "fill-mask",
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=12,
        embedding_size=64,
    )
    done = export(Recipe(source=str(source)), tmp_path / "out")
    assert done.artifact_bytes <= 1.05 * done.source_bytes


def test_tied_output_head_is_stored_once(tmp_path: Path) -> None:
    source = models.make_model(
        tmp_path / "bert", "bert", "fill-mask", hidden_size=256, intermediate_size=256, vocab_size=8000
    )
    done = export(Recipe(source=str(source)), tmp_path / "out")
    assert done.artifact_bytes <= 1.05 * done.source_bytes


@pytest.mark.parametrize("family", sorted(set(models.FAMILIES) - DISENTANGLED))
def test_canonical_form(family: str, tmp_path: Path) -> None:
    source = open_source(str(models.make_model(tmp_path / "source", family)))
    captured = capture(source)
    model = canonicalize(captured.model, longest=64).model
    graph = model.graph
    kinds = [n.op_type for n in graph]
    anatomy = read_anatomy(model)
    assert graph.opset_imports[""] == 23
    assert {n.domain for n in graph} == {""}
    assert kinds.count("Attention") == len(anatomy.blocks)
    assert not {"Softmax", "Erf", "Gemm", "GatherND", "IsNaN", "Identity", "Dropout"} & set(kinds)
    biases = {n.inputs[3].name for n in graph if n.op_type == "Attention"}
    assert len(biases) <= (2 if family == "modernbert" else 1)
    for node in graph:
        if node.op_type == "Attention":
            assert [len(v.shape) for v in node.inputs[:3]] == [3, 3, 3]
            assert node.attributes["q_num_heads"].value == 4
    parameters = {n for n, _ in captured.reference.module.model.named_parameters()}  # type: ignore[attr-defined]
    named = [n for n in graph.initializers if graph.initializers[n].const_value.size >= 16]  # type: ignore[union-attr]
    missing = [
        n
        for n in named
        if n not in parameters and "position_ids" not in n and "inv_freq" not in n and "token_type_ids" not in n
    ]
    assert not missing, missing


def test_equal_layers_are_traced_once(bert: Path) -> None:
    source = open_source(str(bert))
    once, whole = capture(source), capture(source, whole=True)
    assert once.repeated and not whole.repeated
    first, second = canonicalize(once.model, longest=64).model, canonicalize(whole.model, longest=64).model
    assert sorted(n.op_type for n in first.graph) == sorted(n.op_type for n in second.graph)
    assert set(first.graph.initializers) == set(second.graph.initializers)


def test_layers_that_differ_are_traced_whole(tmp_path: Path) -> None:
    assert not capture(open_source(str(models.make_model(tmp_path / "m", "modernbert")))).repeated


def test_saved_canonical_graph_passes_the_checker(bert: Path, tmp_path: Path) -> None:
    import onnx

    ir.save(canonical(bert), tmp_path / "m.onnx")
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
