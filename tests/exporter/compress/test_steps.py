"""The table of passes: each is made by the function of its row, measured, and undone where it did not pay."""

from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import UsageError
from headway.exporter.compress import steps
from headway.exporter.compress.job import Outcome, Stage
from headway.exporter.compress.steps import function_of
from headway.exporter.compress.stopwatch import Timing
from headway.exporter.export import export
from headway.exporter.recipe.pass_specs import FitSpec, RemoveHeadsSpec, SplitSpec
from headway.exporter.recipe.passes import PASSES, PassEntry
from headway.exporter.recipe.recipe import Recipe, make_recipe, read_recipe

from tests.support.toy_pass import RoundBiasesSpec


def test_a_split_that_is_not_faster_is_undone(classifier: Path, text: Path, tmp_path: Path) -> None:
    """Matrices of 64 columns: two small products are never faster than one here, whatever is saved on paper."""
    recipe = make_recipe(
        "test", source=str(classifier), data=text, passes=[{"kind": "split", "keep": 0.95}], max_drop=100
    )
    done = export(recipe, tmp_path / "bundle")
    assert done.manifest.compression is not None
    last = done.manifest.compression["stages"][-1]
    if not last["undone"]:
        pytest.skip("the split was measured to be faster on this machine")
    assert "undone: not faster" in (tmp_path / "bundle" / "README.md").read_text()
    assert not any(b["ranks"] for b in done.manifest.anatomy["blocks"])


def test_a_pass_is_one_module_and_one_row(
    classifier: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = PassEntry(RoundBiasesSpec, "tests.support.toy_pass:round_biases")
    passes = [{"kind": "remove_heads", "keep": {0: [0, 2]}}, {"kind": "round_biases", "decimals": 1}]
    with pytest.raises(UsageError, match="there is no kind 'round_biases'; give one of 'fit', "):
        make_recipe("test", source=str(classifier), data=text, passes=passes)
    monkeypatch.setitem(PASSES, "round_biases", row)
    recipe = make_recipe("test", source=str(classifier), data=text, passes=passes, max_drop=100)
    assert "RoundBiasesSpec" in Recipe.model_json_schema()["$defs"]
    for wrong, says in (
        ([{"kind": "round_biases", "digits": 1}], "passes.0.round_biases.digits: there is no such key"),
        ([*reversed(passes)], "remove_heads behind round_biases: quantized weights are neither cut"),
    ):
        with pytest.raises(UsageError, match=says):
            make_recipe("test", source=str(classifier), data=text, passes=wrong)
    done = export(recipe, tmp_path / "bundle")
    assert done.parity.ok and read_recipe(done.path / "recipe.yaml").passes == recipe.passes
    assert done.manifest.compression is not None
    last = done.manifest.compression["stages"][-1]
    assert last["name"] == "round_biases" and last["paid"] is not None
    graph = ir.load(done.path / "model.onnx").graph
    biases = [v.const_value.numpy() for n, v in graph.initializers.items() if n.endswith("output.dense.bias")]  # type: ignore[union-attr]
    assert len(biases) >= 3 and all(np.allclose(b, np.round(b, 1)) for b in biases)
    assert last["changes"]["biases"].endswith("rounded")


def test_every_row_has_its_function() -> None:
    for kind, entry in PASSES.items():
        function = function_of(entry.function)
        assert list(signature(function).parameters) == ["job", "spec"]
        assert get_type_hints(function)["spec"] is entry.spec, kind


@pytest.mark.parametrize(
    ("nbytes", "ms", "changes", "paid"),
    [
        (90, 10.0, {"a": "b"}, True),
        (100, 10.0, {"a": "b"}, False),
        (110, 10.0, {"a": "b"}, False),
        (110, 5.0, {"a": "b"}, True),
        (90, 5.0, {}, False),
    ],
)
def test_a_pass_has_paid_where_it_saved_bytes_or_time(
    nbytes: int, ms: float, changes: dict[str, str], paid: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stage(name: str, changes: dict[str, str], nbytes: int = nbytes, ms: float = ms) -> Stage:
        return Stage(name, nbytes, ms, 90.0, changes, Timing(ms, 1.0, 1.0, 1.0))

    model: Any = None
    outcome = Outcome(model, [stage("source", {}, 100, 10.0)])
    job: Any = SimpleNamespace(outcome=outcome, given=SimpleNamespace(step=lambda _: None), measure=stage)
    monkeypatch.setitem(PASSES, "round_biases", PassEntry(RoundBiasesSpec, "the function"))
    monkeypatch.setattr(steps, "function_of", lambda _: lambda _job, _spec: changes)
    steps.run_pass(job, RoundBiasesSpec())
    assert outcome.stages[-1].paid is paid and not outcome.stages[-1].undone


@pytest.mark.parametrize("spec", [FitSpec(speedup=2), SplitSpec(keep=0.5), RemoveHeadsSpec(keep={0: [0]})])
def test_nothing_is_removed_from_a_model_without_blocks(spec: Any) -> None:
    job: Any = SimpleNamespace(outcome=SimpleNamespace(), anatomy=SimpleNamespace(blocks=()))
    with pytest.raises(UsageError, match=f"{spec.kind}: the model has no blocks of attention"):
        steps.run_pass(job, spec)


def test_an_embedding_is_split_without_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reached(Exception):
        """The pass itself was called."""

    def made(*_: Any) -> Any:
        raise Reached

    monkeypatch.setattr(steps, "function_of", lambda _: made)
    model = SimpleNamespace(clone=lambda: None)
    job: Any = SimpleNamespace(
        outcome=SimpleNamespace(stages=[None], model=model),
        anatomy=SimpleNamespace(blocks=()),
        given=SimpleNamespace(step=str),
    )
    with pytest.raises(Reached):
        steps.run_pass(job, SplitSpec(keep=0.5, embedding_rank=8))
