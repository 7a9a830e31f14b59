"""Whatever a manifest says, opening, inspecting and verifying its bundle end in an answer or in one sentence."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headway import Bundle
from headway.errors import HeadwayError
from headway.exporter import verification
from headway.exporter.capture.capture import load_reference
from headway.exporter.cli.tables import anatomy_table
from headway.exporter.export import Exported
from headway.exporter.inspection import inspect_model
from headway.exporter.source.source import open_source
from headway.manifest import MANIFEST, Manifest

from tests.support.mutations import mutations

OPENED, VERIFIED = 120, 25
"""How many of the changes that a manifest survives are opened, and verified; all are read and inspected."""


@pytest.fixture
def copy(bert_bundle: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert_bundle.path, tmp_path / "copy"))


def answers(what: str, call: Callable[[], Any]) -> bool:
    """Return whether a call answers; a HeadwayError is one sentence, and anything else fails."""
    try:
        call()
    except HeadwayError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000, what
        str(error).encode("utf-8")
        return False
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    return True


@pytest.mark.slow
def test_every_single_change_of_a_manifest_is_an_answer_or_a_sentence(
    copy: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(str(bert))
    loaded = load_reference(source)
    monkeypatch.setattr(verification, "open_source", lambda *_, **__: source)
    monkeypatch.setattr(verification, "load_reference", lambda _: loaded)
    document = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
    survived, refused = [], 0
    for what, text in mutations(document):
        (copy / MANIFEST).write_text(text, encoding="utf-8")
        if answers(what, lambda: json.loads(Manifest.read(copy).to_json())):
            answers(what, lambda: anatomy_table(inspect_model(str(copy), task=None, length=8, time=False)))
            survived.append((what, text))
        else:
            refused += 1
    assert refused > 1500 and len(survived) > OPENED
    chosen = random.Random(0).sample(survived, OPENED)
    for number, (what, text) in enumerate(chosen):
        (copy / MANIFEST).write_text(text, encoding="utf-8")
        answers(what, lambda: Bundle.open(copy, threads=1)(["a text"]))
        if number < VERIFIED:
            answers(what, lambda: verification.verify_bundle(copy, None, None))
