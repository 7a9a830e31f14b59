"""`headway verify`: a bundle is compared with its source again, and its files with their checksums."""

import json
import shutil
from pathlib import Path

import pytest

from headway.errors import SourceError
from headway.exporter.export import Exported
from headway.exporter.verification import verify_bundle

from tests.support import models


def test_a_bundle_without_a_file_is_not_verified(bert_bundle: Exported, tmp_path: Path) -> None:
    for name in ("config.json", "model.onnx", "tokenizer.json"):
        copy = Path(shutil.copytree(bert_bundle.path, tmp_path / name))
        (copy / name).unlink()
        with pytest.raises(SourceError, match=f"{name}: missing"):
            verify_bundle(copy, None, None)
    manifest = json.loads((copy / "headway.json").read_text(encoding="utf-8"))
    (copy / "headway.json").write_text(json.dumps(manifest | {"files": {}}), encoding="utf-8")
    with pytest.raises(SourceError, match="no checksums"):
        verify_bundle(copy, None, None)


def test_a_bundle_agrees_with_its_source_on_other_text(bert_bundle: Exported, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n".join(f"{word} of the rain" for word in models.WORDS))
    verdict = verify_bundle(bert_bundle.path, None, tmp_path / "text.txt")
    assert verdict.ok and verdict.parity is not None and verdict.metric is None
    assert verdict.to_json() == verdict.parity.to_json()


def test_another_source_is_refused_with_the_next_step(bert_bundle: Exported, tmp_path: Path) -> None:
    other = models.make_model(tmp_path / "other", seed=7, num_hidden_layers=4)
    with pytest.raises(SourceError, match=r"its fingerprint differs; give the right one with --against"):
        verify_bundle(bert_bundle.path, str(other), None)
