"""What every reference does: run, look inside, and give its memory back."""

from pathlib import Path

import numpy as np
import pytest

from headway.exporter.capture.base import Captured
from headway.exporter.capture.capture import capture
from headway.exporter.source.source import open_source

from tests.support.onnx_files import torchscript_file
from tests.support.variants import feeds

MODULE = "bert.encoder.layer.1.output.dense"


@pytest.fixture(params=["directory", "file"])
def captured(request: pytest.FixtureRequest, bert_classifier: Path, tmp_path: Path) -> Captured:
    if request.param == "directory":
        return capture(open_source(str(bert_classifier)))
    return capture(open_source(str(torchscript_file(tmp_path / "file", "bert", 17, "sdpa"))))


def test_a_reference_runs_and_shows_its_inside(captured: Captured) -> None:
    reference = captured.reference
    outputs = reference.run(feeds())
    assert list(outputs) == ["logits"] and outputs["logits"].shape == (3, 2)
    inside = str(captured.model.graph[-2].outputs[0].name) if captured.source.kind == "onnx" else MODULE
    values = reference.inside(feeds(), [inside, "nowhere"])
    assert list(values) == [inside] and values[inside].dtype == np.float32
    reference.close()
