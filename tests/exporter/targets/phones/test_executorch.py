"""Target executorch: programs run in ExecuTorch's own runtime, against the graph and the ONNX bundle they come from."""

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from headway.bundle import Bundle
from headway.errors import TargetError, UsageError
from headway.exporter.export import Exported, export
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant, nodes, sequence_axis
from headway.exporter.passes.blocks import RemoveParts
from headway.exporter.passes.lowrank import SplitWeights
from headway.exporter.passes.neurons import RemoveNeurons
from headway.exporter.passes.quantize import QuantizeActivations, QuantizeWeights, StoreHalf
from headway.exporter.recipe.pass_specs import QuantizeSpec
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.targets import base
from headway.exporter.targets.phones import executorch
from headway.exporter.targets.registry import target_of
from headway.runners.rows import RowRunner

from tests.support.trimmed import corpus_lines
from tests.support.variants import answers, apart, feeds, pruned, rounded

needed = pytest.mark.skipif(
    executorch.ExecuTorchTarget().available() is not None, reason="needs executorch and torchao (extra executorch)"
)
SENTENCES = [
    f"the {a} model runs a {b} of {c} words" for a in ["small", "large"] for b in ["train", "price"] for c in "ab"
]


@pytest.mark.slow
@needed
def test_a_bundle_gives_the_outputs_of_the_onnx_bundle(sentence_bundle: Exported, tmp_path: Path) -> None:
    source = sentence_bundle.path.parent / "sentence"
    done = export(Recipe(source=str(source), target="executorch"), tmp_path / "bundle")
    assert done.parity.ok and done.artifact_bytes == (tmp_path / "bundle" / "model.pte").stat().st_size
    program, onnx = Bundle.open(tmp_path / "bundle"), Bundle.open(sentence_bundle.path)
    for name, wanted in onnx(SENTENCES).items():
        assert np.abs(program(SENTENCES)[name] - wanted).max() < 1e-4
    record = done.manifest.engine
    assert record is not None and record["max_length"] == program.manifest.tokenizer.max_length  # type: ignore[union-attr]
    left = {x["operator"]: x["modules"] for x in record["not_delegated"]}
    assert "embeddings.LayerNorm" in left["aten.native_layer_norm.default"]
    assert not any(name.startswith(("aten.linear", "aten.addmm", "aten.bmm", "aten._softmax")) for name in left)
    with pytest.raises(TargetError, match="65 tokens is longer than the 64"):
        program.runner.run(feeds(1, 65))


def check_integers(source: ir.Model, pruned_: ir.Model, folder: Path, counts: dict[str, int]) -> None:
    """Check that the program of a model rounded to int8 holds the same integers and scales, and gives the graph's outputs."""
    model, matrices = rounded(pruned_)
    assert executorch.ExecuTorchTarget().lower(model, None) == counts  # type: ignore[arg-type]
    executorch.build(model, folder, 60)
    content = (folder / "model.pte").read_bytes()
    for matrix in matrices.values():
        assert np.ascontiguousarray(matrix.q.T).tobytes() in content
        assert matrix.scale.tobytes() in content
    table = constant(next(v for n, v in model.graph.initializers.items() if n.endswith("word_embeddings.weight")))
    assert table is not None and table.dtype == np.int8 and table.tobytes() in content
    runner = executorch.ExecuTorchTarget().open(folder, {"cut_padding": True})
    given = feeds(3, 21)
    wanted, got = answers(model, given), runner.run(given)
    assert apart(wanted, got, given) < 1e-3
    assert apart(answers(source, given), got, given) > 1e-2


@pytest.mark.slow
@needed
def test_integers_of_a_feed_forward_are_stored_unchanged(one_layer: ir.Model, tmp_path: Path) -> None:
    """Removed neurons, a low rank and int8, without the attention: lowering takes longer with each operator."""
    model = one_layer.clone()
    RemoveParts([0])(model)
    RemoveNeurons({(0, 0): [1, 5, 9, 30, 31, 40, 50]})(model)
    SplitWeights({read_anatomy(model).blocks[0].feed_forwards[0].up.weight: 5})(model)
    check_integers(one_layer, model, tmp_path, {"int8_products": 3, "int8_tables": 1})


@pytest.mark.slow
@needed
def test_integers_are_stored_unchanged(one_layer: ir.Model, tmp_path: Path) -> None:
    """Uneven heads, removed neurons, a low rank and int8 at once."""
    check_integers(one_layer, pruned(one_layer), tmp_path, {"attention": 1, "int8_products": 7, "int8_tables": 1})


class Computed(RowRunner):
    """Stands in for a program: the graph that it would be made of, computed by torch."""

    def __init__(self, model: ir.Model):
        outputs = [(str(v.name), sequence_axis(v)) for v in model.graph.outputs]
        super().__init__([str(v.name) for v in model.graph.inputs], outputs, max_length=64, cut_padding=True)
        self._graph = model

    def row(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        results = answers(self._graph, feeds)
        return [results[name] for name in self.output_names]


def compressed(source: Path, folder: Path) -> Exported:
    """Export a model with a pass that rounds every product, and check that it does so by token."""
    (folder / "text.txt").write_text("\n".join([*SENTENCES, *corpus_lines(12)]), encoding="utf-8")
    recipe = Recipe(
        source=str(source), target="executorch", data=folder / "text.txt", passes=[QuantizeSpec()], max_drop=50
    )
    done = export(recipe, folder / "bundle")
    assert done.manifest.lowering["int8_products"] == 6
    assert min(o.cosine for o in done.parity.outputs) > 0.999
    assert done.manifest.compression["stages"][-1]["changes"]["values"] == "per-token"  # type: ignore[index]
    return done


@pytest.mark.slow
@needed
def test_a_compression_for_it_quantizes_per_token(sentence_bundle: Exported, tmp_path: Path) -> None:
    compressed(sentence_bundle.path.parent / "sentence", tmp_path)


@needed
def test_a_compression_lowers_products_that_are_quantized_per_token(
    sentence_bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: dict[Path, ir.Model] = {}

    def build(self: object, model: ir.Model, directory: Path, text: object) -> None:
        built[directory] = model.clone()
        (directory / "model.pte").write_bytes(b"a program")
        (directory / "model.pte.json").write_text("{}")

    def opened(self: object, directory: Path, options: dict, threads: int | None = None) -> Computed:
        assert options == {"cut_padding": True}
        return Computed(built[directory])

    monkeypatch.setattr(executorch.ExecuTorchTarget, "build", build)
    monkeypatch.setattr(executorch.ExecuTorchTarget, "open", opened)
    compressed(sentence_bundle.path.parent / "sentence", tmp_path)
    (model,) = built.values()
    assert executorch.ExecuTorchTarget().lower(model, None)["int8_products"] == 6  # type: ignore[arg-type]


def test_a_program_is_built_for_the_longest_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []
    model = ir.Model(ir.Graph([], [], nodes=[]), ir_version=10)
    monkeypatch.setattr(executorch, "build", lambda *given: built.append(given))
    text = SimpleNamespace(longest=21)
    executorch.ExecuTorchTarget().build(model, tmp_path, text)  # type: ignore[arg-type]
    assert built == [(model, tmp_path, 21)]


def test_quantization_that_it_would_compute_otherwise_is_refused(one_layer: ir.Model) -> None:
    target = executorch.ExecuTorchTarget()
    _, matrices = rounded(one_layer)
    alone = one_layer.clone()
    QuantizeWeights(matrices)(alone)
    with pytest.raises(TargetError, match=r"int8 weights with float activations.*per-token"):
        target.lower(alone, None)  # type: ignore[arg-type]
    value = str(next(n for n in nodes(alone.graph, "MatMul") if n.inputs[1].producer()).inputs[0].name)  # type: ignore[union-attr]
    QuantizeActivations({value: (-4.0, 4.0)})(alone)
    with pytest.raises(TargetError, match=r"activations with a static range"):
        target.lower(alone, None)  # type: ignore[arg-type]
    half = one_layer.clone()
    StoreHalf()(half)
    with pytest.raises(TargetError, match="stored as float16"):
        target.lower(half, None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="bf16 is for GPUs"):
        target_of(Recipe(source="x", target="executorch", dtype="bf16"))


@needed
def test_an_operator_without_a_kernel_is_named_with_its_module() -> None:
    plan = SimpleNamespace(operators=[SimpleNamespace(name="aten::mish", overload="out")])
    left = [executorch.Undelegated("aten.mish.default", 1, ["encoder.layer.1.act"])]
    with pytest.raises(TargetError, match=r"aten::mish.out \(encoder.layer.1.act\) has no kernel.*--target ort"):
        executorch.check_kernels(SimpleNamespace(execution_plan=[plan]), left)


def test_a_missing_runtime_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None if name == "executorch" else find_spec(name))
    with pytest.raises(TargetError, match=r"pip install 'headway\[executorch\]'") as caught:
        export(Recipe(source=str(tmp_path), target="executorch"), tmp_path / "bundle")
    assert caught.value.exit_code == 4 and not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("cut", [True, False])
def test_rows_are_run_one_by_one(cut: bool) -> None:
    shapes = []

    class Echo(RowRunner):
        def row(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            shapes.append(feeds["input_ids"].shape)
            return [feeds["input_ids"][..., None].astype(np.float32), feeds["input_ids"].sum(keepdims=True)]

    runner = Echo(["input_ids"], [("states", 1), ("sum", None)], max_length=9, cut_padding=cut)
    given = feeds(3, 9)
    got = runner.run(given)
    assert shapes == ([(1, 9), (1, 5), (1, 9)] if cut else [(1, 9)] * 3)
    mask = given["attention_mask"] if cut else np.ones((3, 9))
    assert np.array_equal(got["states"][..., 0], given["input_ids"] * mask)
    assert got["sum"].shape == (3, 1)
