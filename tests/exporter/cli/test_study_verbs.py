"""`headway profile` and `headway sensitivity`."""

import json
from pathlib import Path
from typing import Any

import pytest

from headway.exporter.compress import sensitivity

from tests.support import models
from tests.support.command_line import Headway


def test_what_groups_of_weights_cost(headway: Headway, bert: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n".join(f"{word} of the rain" for word in models.WORDS))
    words = ["sensitivity", bert, "-d", tmp_path / "text.txt", "--samples", 8, "-o", tmp_path / "out"]
    done = headway(*words)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "out" / "sensitivity.json").read_text())
    assert all(group["name"] in done.stdout for group in content["groups"])
    assert done.stdout.splitlines()[-2:] == [str(tmp_path / "out" / f"sensitivity.{kind}") for kind in ("json", "png")]


@pytest.mark.parametrize(("words", "samples"), [([], 128), (["--samples", 9], 9)])
def test_as_many_texts_are_compared_as_the_reference_says(
    words: list[object], samples: int, headway: Headway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run costs time for each text: who gives no number gets the one that the manual has."""
    asked: dict[str, Any] = {}

    def sensitivity_of(*_: object, **options: Any) -> tuple[dict[str, Any], list[Path]]:
        asked.update(options)
        return {}, []

    monkeypatch.setattr(sensitivity, "sensitivity_of", sensitivity_of)
    assert headway("sensitivity", "x", "-d", "text.txt", "-q", *words).returncode == 0
    assert asked["samples"] == samples


def test_other_targets_are_not_measured_here(headway: Headway) -> None:
    done = headway("profile", "x", "-t", "tensorrt")
    assert done.returncode == 4 and "leave --target out" in done.stderr
