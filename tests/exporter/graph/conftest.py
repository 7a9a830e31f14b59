"""Models that several tests of the graph start from."""

import onnx_ir as ir
import pytest

from tests.support import models
from tests.support.variants import canonical


@pytest.fixture(scope="session")
def bert_model(tmp_path_factory: pytest.TempPathFactory) -> ir.Model:
    return canonical(
        models.make_model(tmp_path_factory.mktemp("bert"), "bert", "text-classification", num_hidden_layers=1)
    )
