"""Fixtures of the tests of compression."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headway.calibration.corpus import read_files
from headway.exporter.capture.capture import capture_canonical
from headway.exporter.compress.job import Job, begin_job
from headway.exporter.compress.work import Work
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.source.tokenizer import source_encoder
from headway.exporter.targets.registry import target_of

from tests.support.compressing import classifier, own_cache, text  # noqa: F401
from tests.support.evidence import evidence, model  # noqa: F401


@pytest.fixture
def begin(classifier: Path, text: Path, tmp_path: Path) -> Callable[..., Job]:  # noqa: F811
    """Begin a job on the classifier: passes and keys of the recipe in, the job out."""

    def make(passes: list[dict], step: Callable[..., None] = lambda *_, **__: None, **keys: Any) -> Job:
        recipe = make_recipe("test", source=str(classifier), passes=passes, **{"data": text} | keys)
        source, canonical = capture_canonical(recipe.source)
        staging, folder = tmp_path / "staging", tmp_path / "folder"
        staging.mkdir(exist_ok=True)
        encoder = source_encoder(source, staging)
        files = read_files(recipe.files, {"LABEL_0": 0, "LABEL_1": 1})
        return begin_job(
            recipe,
            target_of(recipe),
            canonical,
            encoder,
            source.fingerprint,
            files,
            staging=staging,
            out=tmp_path / "bundle",
            folder=folder,
            step=step,
            work=Work(tmp_path / "work"),
        )

    return make
