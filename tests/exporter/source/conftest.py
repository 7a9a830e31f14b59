"""A source that a test may damage."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert, tmp_path / "model"))
