"""`headway pack`, `unpack`, `sign` and `bom`, and `verify --key`."""

import json
from pathlib import Path

import pytest

from headway.exporter.export import Exported

from tests.support.command_line import Headway


def test_a_bundle_goes_into_an_archive_and_comes_back(headway: Headway, bert_bundle: Exported, tmp_path: Path) -> None:
    archive = tmp_path / "model.tar"
    done = headway("pack", bert_bundle.path, "--out", archive, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["bytes"] == archive.stat().st_size
    again = headway("pack", bert_bundle.path, "--out", archive)
    assert again.returncode == 2 and "--force" in again.stderr
    done = headway("unpack", archive, "--out", tmp_path / "out")
    assert done.returncode == 0 and "feature-extraction" in done.stdout
    archive.write_bytes(archive.read_bytes()[:5000])
    bad = headway("unpack", archive, "--out", tmp_path / "bad")
    assert bad.returncode == 3 and not (tmp_path / "bad").exists()


def test_a_bill_is_printed_or_written(headway: Headway, bert_bundle: Exported, tmp_path: Path) -> None:
    printed = headway("bom", bert_bundle.path).stdout
    assert json.loads(printed)["bomFormat"] == "CycloneDX"
    file = tmp_path / "bom.json"
    assert headway("bom", bert_bundle.path, "-o", file).returncode == 0 and file.read_text() == printed
    assert headway("bom", bert_bundle.path, "-o", file).returncode == 2
    assert headway("bom", bert_bundle.path, "-o", file, "--force").returncode == 0


def test_without_the_extra_signing_names_it(
    headway: Headway, bert_bundle: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "model_signing", None)
    for words in (("sign", bert_bundle.path, "--key", "k.pem"), ("verify", bert_bundle.path, "--key", "k.pem")):
        done = headway(*words)
        assert done.returncode == 4 and "headway[sign]" in done.stderr
