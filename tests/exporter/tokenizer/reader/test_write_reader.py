"""What is written for a platform, and only where the reader's ids are the bundle's."""

from pathlib import Path
from typing import Any

import pytest

from headway.errors import GateError, HeadwayWarning
from headway.exporter.export import Exported
from headway.exporter.tokenizer import reader
from headway.exporter.tokenizer.reader import write_reader
from headway.exporter.tokenizer.reader.compact import compact_file
from headway.manifest import TokenizerInfo

from tests.support.phone_tokenizers import needs_compiler


@pytest.mark.parametrize("platform", ["android", "ios"])
def test_what_is_written(bert_bundle: Exported, tmp_path: Path, platform: Any) -> None:
    written = write_reader(bert_bundle.path, tmp_path / "out", platform)
    assert sorted(written) == sorted((tmp_path / "out").iterdir())
    assert written[0].name == reader.FILE and written[0].read_bytes()[:4] == b"HWTK"


@needs_compiler
def test_ids_that_differ_are_refused(bert_bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(content: dict[str, Any], info: TokenizerInfo) -> bytes:
        return compact_file(content | {"normalizer": content["normalizer"] | {"lowercase": False}}, info)

    monkeypatch.setattr(reader, "compact_file", wrong)
    with pytest.raises(GateError, match="letters beyond ASCII"):
        write_reader(bert_bundle.path, tmp_path / "out", "ios")
    assert not (tmp_path / "out").exists()


def test_without_a_compiler_it_is_said(bert_bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "library", lambda: None)
    with pytest.warns(HeadwayWarning, match="not compared"):
        write_reader(bert_bundle.path, tmp_path / "out", "ios")


@pytest.mark.filterwarnings("ignore:no C")
def test_the_folder_may_be_there_or_not(bert_bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "library", lambda: None)
    monkeypatch.setattr(reader, "compact_file", lambda content, info: b"HWTK")
    for folder in (tmp_path, tmp_path / "app" / "assets"):
        written = write_reader(bert_bundle.path, folder, "android")
        assert written[0].read_bytes() == b"HWTK" and {file.parent for file in written} == {folder}
