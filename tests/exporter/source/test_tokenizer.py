"""Tokenizers that are missing, too large for their model, or leave nothing of a text."""

import json
from pathlib import Path

from tests.support import models
from tests.support.refusals import refused


def test_a_tokenizer_of_a_larger_model(tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "source", vocab_size=60)
    error = refused(source, tmp_path / "out")
    assert error.exit_code == 3
    assert "vocab_size = 60" in str(error)


def test_a_limit_that_leaves_nothing_of_a_text(copy: Path, tmp_path: Path) -> None:
    path = copy / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 2}))
    assert "model_max_length" in str(refused(copy, tmp_path / "out"))


def test_missing_tokenizer(copy: Path, tmp_path: Path) -> None:
    (copy / "tokenizer.json").unlink()
    error = refused(copy, tmp_path / "out")
    assert error.exit_code == 3
    assert "tokenizer" in str(error)
