"""Targets are set up by their row: a new one is a folder and a row, and none raises where it cannot be built."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from headway.bundle import Bundle
from headway.errors import UsageError
from headway.exporter.export import Exported, export
from headway.exporter.package.packager import package
from headway.exporter.recipe.recipe import Recipe, make_recipe
from headway.exporter.recipe.targets import TARGETS, TargetEntry
from headway.exporter.targets.base import installed
from headway.exporter.targets.registry import target_of
from headway.exporter.verification import verify_bundle

_TOY = '''
"""A toy target: the graph as ONNX Runtime's operators, under a name of its own."""

from dataclasses import dataclass

from headway.exporter.targets.base import TargetSpec
from headway.exporter.targets.ort.target import files, lower, session_options, write
from headway.runners.ort import OrtRunner


@dataclass(frozen=True)
class ToyTarget:
    spec: TargetSpec = TargetSpec("toy", neuron_multiple=1, rank_multiple=1)
    artifact: str = "model.onnx"
    dtype: str = "float32"

    def available(self):
        return None

    def lower(self, model, anatomy, text):
        return lower(model, anatomy).as_dict()

    def build(self, model, directory, text):
        write(model, directory)

    def files(self, directory):
        return files(directory)

    def options(self, *, regroup):
        return session_options(regroup=regroup)

    def open(self, directory, options, threads=None):
        return OrtRunner(directory / self.artifact, options, threads)

    def record(self, directory):
        return {"checked": "the toy"}

    def finish(self, directory, manifest):
        (directory / "toy.txt").write_text(manifest.task)


def toy_target(recipe):
    return ToyTarget()


def card_lines(manifest):
    return ["", "## In the toy box"]
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a target made of one folder and one row."""
    folder = tmp_path / "packages" / "toy_target"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "target.py").write_text(_TOY)
    monkeypatch.syspath_prepend(folder.parent)
    entry = TargetEntry(
        device="browser",
        factory="toy_target.target:toy_target",
        platforms=("web",),
        card="toy_target.target:card_lines",
    )
    monkeypatch.setitem(TARGETS, "toy", entry)
    yield "toy"
    for name in [n for n in sys.modules if n.partition(".")[0] == "toy_target"]:
        del sys.modules[name]


def test_a_new_target_is_one_folder_and_one_row(toy: str, bert: Path, bert_bundle: Exported, tmp_path: Path) -> None:
    done = export(make_recipe("test", source=str(bert), target=toy), tmp_path / "bundle")
    assert done.parity.ok
    manifest = json.loads((done.path / "headway.json").read_text(encoding="utf-8"))
    assert (manifest["target"], manifest["runner"]) == ("toy", "onnxruntime")
    assert yaml.safe_load((done.path / "recipe.yaml").read_text(encoding="utf-8"))["target"] == "toy"
    assert (done.path / "toy.txt").read_text() == manifest["task"] and "toy.txt" in manifest["files"]
    card = (done.path / "README.md").read_text(encoding="utf-8")
    assert "target toy" in card and "## In the toy box" in card and "Checked was the toy." in card
    opened, expected = Bundle.open(done.path)(["a text"]), Bundle.open(bert_bundle.path)(["a text"])
    for name, array in expected.items():
        np.testing.assert_allclose(opened[name], array, atol=1e-6)
    assert verify_bundle(done.path, str(bert), None).ok
    packaged = package(done.path, "web", tmp_path / "app")
    assert "model.onnx" in packaged.files and "index.js" in packaged.files


def test_a_new_target_s_options_are_checked_by_its_row(toy: str) -> None:
    for option, message in (
        ({"dtype": "fp16"}, "target toy: fp16 is for GPUs"),
        ({"kernels": "custom"}, "target toy: its graph has plain operators"),
        ({"verify": "module"}, "target toy: its artifact itself is checked"),
    ):
        with pytest.raises(UsageError, match=message):
            target_of(make_recipe("test", source="x", target=toy, **option))
    with pytest.raises(UsageError, match="not for toy"):
        make_recipe("test", source="x", target=toy, engine={"plan": True})


def reason(name: str) -> str | None:
    """Why a target without options cannot be built here."""
    verify = "module" if TARGETS[name].convert_only else "artifact"
    return target_of(Recipe(source="", target=name, verify=verify)).available()


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_is_missing_is_a_reason_and_no_exception(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = reason(name)
    assert here is None or (isinstance(here, str) and here)
    for module in ("executorch", "torchao", "ai_edge_litert", "coremltools", "tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, None)
    gone = reason(name)
    needs_a_package = name in ("executorch", "litert", "coreml", "tensorrt", "tensorrt-rtx")
    assert (gone is not None) == needs_a_package
    if gone is not None:
        assert "pip install" in gone


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"target": "tensorrt", "engine": {"gpus": ["sm_89"]}}, "leave `gpus`"),
        ({"target": "tensorrt", "kernels": "custom", "engine": {"hardware": "same"}}, "leave version_compatible"),
        ({"target": "tensorrt-rtx", "engine": {"gpus": ["sm_1"]}}, "GPU 'sm_1': TensorRT-RTX builds for"),
        ({"target": "tensorrt-rtx", "engine": {"stripped": True}}, "weight-stripped"),
    ],
)
def test_engines_that_cannot_be_made_are_a_reason_too(options: dict, reason: str) -> None:
    assert reason in (target_of(Recipe(source="x", **options)).available() or "")


def test_kernels_that_cannot_be_declared_are_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from headway.exporter.targets.tensorrt import target as engines
    from headway.kernels import tensorrt_plugin

    def register() -> None:
        raise ModuleNotFoundError("No module named 'triton'", name="triton")

    monkeypatch.setattr(engines, "missing", lambda library: None)
    monkeypatch.setattr(engines, "this_gpu", lambda: "sm_90")
    monkeypatch.setattr(tensorrt_plugin, "register", register)
    reason = target_of(Recipe(source="x", target="tensorrt", kernels="custom")).available()
    assert reason is not None and "need triton" in reason


def test_a_module_without_a_spec_counts_as_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "half_a_module", type(sys)("half_a_module"))
    assert not installed("half_a_module") and installed("json") and not installed("json", "half_a_module")
