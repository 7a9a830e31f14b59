"""The one flow: its steps, its verdicts, and what it leaves where one fails."""

import dataclasses
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import helper

from headway.errors import GateError, SourceError, UsageError
from headway.exporter import export as flow
from headway.exporter.export import STEPS, Exported, export
from headway.exporter.recipe.recipe import Recipe, make_recipe

from tests.support import hand_made, models


def test_steps_without_passes(bert: Path, bert_bundle: Exported, tmp_path: Path) -> None:
    told: list[str] = []
    done = export(Recipe(source=str(bert)), tmp_path / "out", on_step=told.append)
    assert tuple(told) == STEPS
    assert done.manifest.compression is None and done.artifact_bytes == bert_bundle.artifact_bytes
    assert done.manifest.files["model.onnx.data"] == bert_bundle.manifest.files["model.onnx.data"]


def test_steps_with_passes(bert_classifier: Path, tmp_path: Path) -> None:
    told: list[str] = []
    data = models.write_labeled(tmp_path / "lines.jsonl", 60)
    passes = [{"kind": "float16"}]
    recipe = make_recipe("test", source=str(bert_classifier), data=data, passes=passes, max_drop=100)
    done = export(recipe, tmp_path / "out", on_step=lambda name, **_: told.append(name))
    assert told == [
        *STEPS[:3],
        STEPS[4],
        "measure the source",
        "float16",
        "latency at other lengths",
        STEPS[3],
        *STEPS[5:],
    ]
    assert done.manifest.compression is not None and done.parity.ok
    assert (done.path / "plots" / "passes.png").is_file()


def test_what_is_there_is_not_replaced_unless_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "headway.json").write_text("a bundle")
    with pytest.raises(UsageError, match="exists; pass `force`"):
        export(Recipe(source="nowhere"), tmp_path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("headway.json", "a bundle")]
    with pytest.raises(SourceError, match="nowhere"):
        export(Recipe(source="nowhere"), tmp_path, force=True)


@pytest.mark.parametrize(
    ("passes", "refused"),
    [
        ([{"kind": "remove_heads", "keep": {0: [0]}}], True),
        ([{"kind": "remove_heads", "keep": {0: [0]}}, {"kind": "quantize"}], True),
        ([{"kind": "quantize"}], False),
    ],
)
def test_a_source_that_computes_in_integers_may_only_be_quantized(
    passes: list[dict], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges of activations hold for the very model that they were found for, and other passes change it."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["y"]),
    ]
    weights = {"table": np.ones((2, 2), np.float32), "step": np.float32(0.5), "zero": np.int8(0)}
    model = hand_made.load(nodes, weights, ["y"])
    recipe = make_recipe("test", source="x", data="t.txt", passes=passes)
    source = SimpleNamespace(kind="onnx", spec="x", checkpoint=None, task="feature-extraction", config={})
    asked: Any = SimpleNamespace(**dict.fromkeys(("target", "staging", "out", "work")), recipe=recipe, files=[])
    asked.step = lambda _: None
    held: Any = SimpleNamespace(model=model, source=source, cases=[], per_token=[], encoder=None)
    held.reference = SimpleNamespace(close=lambda: None)
    digest: Any = SimpleNamespace(result=lambda: "digest of the source")
    monkeypatch.setattr(flow, "source_answers", lambda *_: [])
    monkeypatch.setattr(flow, "begin_job", lambda *_, **__: "a job")
    begin = partial(flow.begin_passes, asked, held, digest, Path("folder"))
    if refused:
        with pytest.raises(UsageError, match="x: it computes activations in integers"):
            begin()
    else:
        assert begin() == "a job"


def test_passes_need_text_before_anything_is_read(tmp_path: Path) -> None:
    recipe = make_recipe("test", source="nowhere", passes=[{"kind": "float16"}])
    with pytest.raises(UsageError, match="compression learns from text: give --data"):
        export(recipe, tmp_path / "out")


@pytest.mark.parametrize(
    ("count", "asked", "says"),
    [
        (3, {"kind": "fit", "flops": 0.5}, "holds 3 texts; at least 10 are needed"),
        (40, {"kind": "trim_vocabulary", "keep_script": ["latin", "klingon"]}, "no token is of script 'klingon'"),
    ],
)
def test_what_the_text_and_the_tokenizer_refuse_is_refused_before_the_source_is_captured(
    count: int, asked: dict, says: str, bert_classifier: Path, tmp_path: Path
) -> None:
    data, steps = tmp_path / "lines.txt", []
    data.write_text("\n".join(f"the price of bread {i}" for i in range(count)))
    recipe = make_recipe("test", source=str(bert_classifier), data=data, passes=[asked])
    with pytest.raises(UsageError, match=says):
        export(recipe, tmp_path / "out", on_step=lambda name, **_: steps.append(name))
    assert steps == [STEPS[0]]


def test_choices_are_exported_but_not_compressed(tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "source", "bert", "multiple-choice")
    data = models.write_labeled(tmp_path / "lines.jsonl", 20)
    recipe = make_recipe("test", source=str(source), data=data, column="text", passes=[{"kind": "float16"}])
    with pytest.raises(UsageError, match="exported, but not compressed yet"):
        export(recipe, tmp_path / "out")
    assert export(Recipe(source=str(source)), tmp_path / "out").parity.ok


def test_an_artifact_over_its_size_writes_nothing(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"MB over max_mb"):
        export(Recipe(source=str(bert), max_mb=0.01), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_layers_that_are_not_equal_after_all_are_traced_each(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parity decides whether repeated layers were equal; where it fails, every layer is traced, and judged again."""
    told: list[str] = []
    judged: list[bool] = []

    def compare(*arguments, **options):
        parity = flow_compare(*arguments, **options)
        judged.append(parity.ok)
        if len(judged) == 1:
            parity.outputs[0] = dataclasses.replace(parity.outputs[0], max_abs=1.0)
        return parity

    flow_compare = flow.compare
    monkeypatch.setattr(flow, "compare", compare)
    done = export(Recipe(source=str(bert)), tmp_path / "out", on_step=told.append)
    assert judged == [True, True] and done.parity.ok
    assert told == [STEPS[0], *STEPS[1:6], *STEPS[1:]]


def test_a_failed_parity_names_the_first_difference(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow_compare = flow.compare

    def compare(*arguments, **options):
        parity = flow_compare(*arguments, **options)
        parity.outputs[0] = dataclasses.replace(parity.outputs[0], max_abs=1.0)
        return parity

    monkeypatch.setattr(flow, "compare", compare)
    monkeypatch.setattr(flow, "diagnose", lambda *_: "encoder.layer.0 (in the lowering)")
    with pytest.raises(GateError, match=r"the first module that differs is encoder\.layer\.0"):
        export(Recipe(source=str(bert)), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_source_s_weights_are_let_go_before_the_artifact_is_opened(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    release = flow._release

    def released(graph, model) -> None:
        release(graph, model)
        values = [*graph.weights, *model.graph.initializers.values()]
        left.append(sum(v.const_value is not None for v in values))
        left.append(sum(p.numel() for p in graph.reference.module.parameters()))
        assert len(graph.weights) > 50

    monkeypatch.setattr(flow, "_release", released)
    export(Recipe(source=str(bert)), tmp_path / "out")
    assert left == [0, 0]
