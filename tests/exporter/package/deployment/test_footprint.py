"""What a bundle needs, measured in processes of their own."""

import shutil
from pathlib import Path

import pytest

from headway.errors import TargetError
from headway.exporter.export import Exported
from headway.exporter.package.deployment.footprint import of_cold_start, of_serving


def test_memory_and_time_are_measured(sentence_bundle: Exported) -> None:
    started = of_cold_start(sentence_bundle.path)
    for measured in (of_serving(sentence_bundle.path, 0.2), started):
        assert measured.seconds > 0 and 10 << 20 < measured.peak < 4 << 30
    assert started.budget == 0


def test_a_bundle_that_does_not_run_is_named(sentence_bundle: Exported, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(sentence_bundle.path, tmp_path / "damaged"))
    (damaged / "tokenizer.json").unlink()
    with pytest.raises(TargetError, match=r"tokenizer\.json"):
        of_serving(damaged, 0.2)
