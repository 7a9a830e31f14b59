"""Models beyond what one protobuf message holds. Marked slow: minutes, 8 GB of memory, 10 GB of disk."""

from pathlib import Path

import pytest

from headway import Bundle
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe

from tests.support import models


def three_gigabytes(directory: Path) -> Path:
    """Return a random BERT whose weights exceed 3 GB."""
    return models.make_model(
        directory,
        "bert",
        hidden_size=2048,
        num_attention_heads=32,
        intermediate_size=8192,
        num_hidden_layers=15,
        vocab_size=30522,
    )


@pytest.mark.slow
def test_a_three_gigabyte_encoder(tmp_path: Path) -> None:
    source = three_gigabytes(tmp_path / "source")
    assert sum(p.stat().st_size for p in source.glob("*.safetensors")) > 3e9
    done = export(Recipe(source=str(source)), tmp_path / "out")
    assert done.parity.ok
    assert Bundle.open(done.path)(["the model"])["last_hidden_state"].shape[2] == 2048


@pytest.mark.slow
def test_an_onnx_file_of_three_gigabytes(tmp_path: Path) -> None:
    import onnx_ir as ir

    from headway.exporter.capture.capture import capture
    from headway.exporter.source.source import open_source

    source = three_gigabytes(tmp_path / "source")
    ir.save(
        capture(open_source(str(source))).model, tmp_path / "source" / "model.onnx", external_data="model.onnx.data"
    )
    done = export(Recipe(source=str(tmp_path / "source" / "model.onnx")), tmp_path / "out")
    assert done.parity.ok
    assert done.artifact_bytes > 3e9
