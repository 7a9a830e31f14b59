"""What this machine can build and run, by what the targets themselves answer."""

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from headway.engine import build as engine_build
from headway.errors import TargetError
from headway.exporter.cli import machine
from headway.exporter.recipe.targets import TARGETS, TargetEntry


def test_every_target_is_listed_and_says_what_to_do() -> None:
    states = machine.states()
    assert [state.name for state in states] == list(TARGETS)
    for state in states:
        assert state.build in ("yes", "plan", "no")
        assert (state.build == "yes") or state.build_reason
        assert state.run or state.run_reason
    by_name = {state.name: state for state in states}
    assert (by_name["ort"].build, by_name["ort"].run, by_name["ort"].run_reason) == ("yes", True, None)
    assert by_name["ort"].to_json()["device"] == "cpu"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> TargetEntry:
    """Return a target of one row, whose `available` says what the test puts into `toy_target.reason`."""
    module: Any = ModuleType("toy_target")
    module.reason = None
    module.make = lambda recipe: SimpleNamespace(available=lambda: module.reason, library=None)
    monkeypatch.setitem(sys.modules, "toy_target", module)
    entry = TargetEntry(device="cpu", factory="toy_target:make")
    monkeypatch.setitem(TARGETS, "toy", entry)
    return entry


def test_a_target_s_own_reason_is_shown(toy: TargetEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine._state("toy", toy) == machine.TargetState("toy", "cpu", ("fp32",), (), "yes", None, True, None)
    monkeypatch.setattr(sys.modules["toy_target"], "reason", "install toys")
    state = machine._state("toy", toy)
    assert (state.build, state.build_reason, state.run) == ("no", "install toys", True)


def test_a_factory_that_cannot_be_imported_names_what_is_missing(toy: TargetEntry) -> None:
    state = machine._state("toy", replace(toy, factory="toy_target:make"))
    assert state.build == "yes"
    TARGETS["toy"] = replace(toy, factory="nonesuch_package:make")  # the fixture's monkeypatch takes the row away
    state = machine._state("toy", TARGETS["toy"])
    assert state.build == "no" and "nonesuch_package" in (state.build_reason or "")


@pytest.mark.parametrize(
    ("plan_works", "named_gpu_works", "build"), [(True, False, "plan"), (True, True, "yes"), (False, False, "no")]
)
def test_engines_are_built_or_planned(
    plan_works: bool, named_gpu_works: bool, build: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def target_of(recipe: Any) -> Any:
        works = plan_works if recipe.engine.plan else named_gpu_works and bool(recipe.engine.gpus)
        return SimpleNamespace(available=lambda: None if works else "name a GPU")

    monkeypatch.setattr(machine, "target_of", target_of)
    state = machine._state("tensorrt-rtx", TARGETS["tensorrt-rtx"])
    assert (state.build, state.build_reason) == (build, "name a GPU")


def test_a_runtime_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    assert machine._runs(TARGETS["executorch"], None) == (
        False,
        "its runtime is not installed: pip install 'headway[executorch]'",
    )
    monkeypatch.setattr(machine, "find_spec", lambda name: object())
    assert machine._runs(TARGETS["litert"], None) == (True, None)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    runs, reason = machine._runs(TARGETS["coreml"], None)
    assert not runs and "Apple's systems alone" in (reason or "")
    runs, reason = machine._runs(replace(TARGETS["ort"], runner="abacus"), None)
    assert runs is None and "abacus" in (reason or "")


def test_gpus_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    target: Any = SimpleNamespace(options=lambda regroup: {"providers": [["CUDAExecutionProvider", {}]]}, library=None)
    monkeypatch.setattr(engine_build, "this_gpu", lambda: None)
    runs, reason = machine._runs(TARGETS["ort-cuda"], target)
    assert not runs and "no NVIDIA GPU" in (reason or "")
    monkeypatch.setattr(engine_build, "this_gpu", lambda: "sm_89")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    runs, reason = machine._runs(TARGETS["ort-cuda"], target)
    assert not runs and "lacks CUDAExecutionProvider: pip install onnxruntime-gpu" in (reason or "")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert machine._runs(TARGETS["ort-cuda"], target) == (True, None)

    def find_library(library: str) -> None:
        raise TargetError(f"no {library}: pip install it")

    monkeypatch.setattr(engine_build, "find_library", find_library)
    engine: Any = SimpleNamespace(library="tensorrt")
    assert machine._runs(TARGETS["tensorrt"], engine) == (False, "no tensorrt: pip install it")
