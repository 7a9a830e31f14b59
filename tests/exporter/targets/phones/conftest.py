"""Fixtures shared by the tests of targets for phones."""

import onnx_ir as ir
import pytest

from headway.exporter.targets.phones import litert

from tests.support import models
from tests.support.litert import PYTHON
from tests.support.variants import canonical


@pytest.fixture(autouse=True)
def converter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the environment that `make litert` has made."""
    if litert.converter() is None and PYTHON.is_file():
        monkeypatch.setenv(litert.PYTHON, str(PYTHON))


@pytest.fixture(scope="session")
def one_layer(tmp_path_factory: pytest.TempPathFactory) -> ir.Model:
    folder = models.make_model(
        tmp_path_factory.mktemp("one"), "bert", "text-classification", num_hidden_layers=1, intermediate_size=2048
    )
    return canonical(folder)
