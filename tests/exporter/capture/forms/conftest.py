"""The float file that all forms are made of, and its canonical graph: once for a session."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import tool_forms
from tests.support.onnx_files import torchscript_file
from tests.support.tool_forms import Make, anatomy_of, file_outputs, form_of


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torchscript_file(tmp_path_factory.mktemp("forms") / "plain", "bert", 17, "eager")


@pytest.fixture(scope="session")
def anatomy(plain: Path) -> dict:
    return anatomy_of(tool_forms.read(plain)[1])


@pytest.fixture(scope="session")
def plain_outputs(plain: Path):
    return file_outputs(plain)


@pytest.fixture
def made(plain: Path, tmp_path: Path) -> Callable[[Make], Path]:
    return lambda make: form_of(plain, tmp_path / "made", make)
