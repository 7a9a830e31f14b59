"""A source that a test may damage. Every trace is made anew: it is what these tests are about."""

import shutil
from pathlib import Path

import pytest

from headway.exporter.capture import torch_model

from tests.support import traces


@pytest.fixture
def copy(bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert, tmp_path / "model"))


@pytest.fixture(autouse=True)
def _traced_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_model, "_export", traces.trace)
