"""Observations are saved and loaded, for the same model only."""

import json
from pathlib import Path

import onnx_ir as ir
import pytest

from headway.calibration.statistics import Observations
from headway.errors import SourceError

from tests.support.observing import assert_equal, batches, watch


def test_saved_and_loaded_or_refused(classifier: ir.Model, values: list[str], tmp_path: Path) -> None:
    observations = watch(classifier, batches(8), values, moments=values[:1], seed=3)
    observations.save(tmp_path / "saved")
    again = Observations.load(tmp_path / "saved", source="model")
    assert_equal(observations, again)
    assert again.describe() == observations.describe() and again.seed == 3
    with pytest.raises(SourceError, match="another model"):
        Observations.load(tmp_path / "saved", source="other")
    described = json.loads((tmp_path / "saved.json").read_text())
    (tmp_path / "saved.json").write_text(json.dumps(described | {"schema_version": 99}))
    with pytest.raises(SourceError, match="another version"):
        Observations.load(tmp_path / "saved", source="model")
    (tmp_path / "saved.json").write_text("{")
    with pytest.raises(SourceError, match="cannot be read"):
        Observations.load(tmp_path / "saved", source="model")
