"""Versions that packages name."""

import importlib.metadata
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from headway.errors import TargetError
from headway.exporter.package.deployment.pins import RUNTIME, SERVER, pinned

PROJECT = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["project"]


def test_the_names_are_the_project_s() -> None:
    assert {Requirement(line).name for line in PROJECT["dependencies"]} == set(RUNTIME)
    assert {Requirement(line).name for line in PROJECT["optional-dependencies"]["serve"]} == set(SERVER)


def test_what_is_needed_is_named_at_its_version() -> None:
    lines = pinned(RUNTIME)
    assert f"onnxruntime=={importlib.metadata.version('onnxruntime')}" in lines
    assert lines == sorted(lines, key=lambda line: line.partition("==")[0]) and {
        line.partition("==")[0] for line in lines
    } > set(RUNTIME)
    assert not any(line.startswith(("torch==", "headway==", "pytest==")) for line in lines)


def test_what_is_not_installed_is_named() -> None:
    with pytest.raises(TargetError, match="no-such-package is not installed"):
        pinned(["no-such-package"])
