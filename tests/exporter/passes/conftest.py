"""Canonical models that tests of passes start from; each test changes a clone."""

import onnx_ir as ir
import pytest

from tests.support import models
from tests.support.variants import canonical


@pytest.fixture(scope="session")
def family_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ir.Model]:
    folder = tmp_path_factory.mktemp("families")
    return {f: canonical(models.make_model(folder / f, f)) for f in models.FAMILIES}


@pytest.fixture(scope="session")
def bert_model(tmp_path_factory: pytest.TempPathFactory) -> ir.Model:
    return canonical(models.make_model(tmp_path_factory.mktemp("bert"), "bert", num_hidden_layers=3))
