"""Fixtures of the tests of calibration."""

from pathlib import Path

import onnx_ir as ir
import pytest

from headway.exporter.graph.anatomy import read_anatomy

from tests.support.ray_clusters import cluster  # noqa: F401
from tests.support.variants import canonical


@pytest.fixture(scope="session")
def classifier(bert_classifier: Path) -> ir.Model:
    return canonical(bert_classifier)


@pytest.fixture(scope="session")
def values(classifier: ir.Model) -> list[str]:
    """Return inputs of all projections, by token and (pooled) by text."""
    anatomy = read_anatomy(classifier)
    projections = [p for b in anatomy.blocks for p in b.projections] + list(anatomy.head)
    return list(dict.fromkeys(str(p.input.name) for p in projections))
