"""Folders of `datasets`, as its own library writes them."""

from pathlib import Path

import pytest

from headway.bulk.datasets_folder import arrow_files, batches_of, is_datasets_folder, schema_of
from headway.errors import UsageError


def test_a_folder_that_the_library_wrote(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    texts = [f"text {i}" for i in range(7)]
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(str(tmp_path / "saved"), num_shards=2)
    assert is_datasets_folder(tmp_path / "saved") and not is_datasets_folder(tmp_path)
    files = arrow_files(tmp_path / "saved")
    assert len(files) == 2 and schema_of(files[0]).names == ["text"]
    assert [t for file in files for batch in batches_of(file) for t in batch.column("text").to_pylist()] == texts


def test_another_folder_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no state\.json"):
        arrow_files(tmp_path)
