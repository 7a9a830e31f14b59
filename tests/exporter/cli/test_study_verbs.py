"""`headway profile` and `headway sensitivity`."""

import json
from pathlib import Path

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


def test_other_targets_are_not_measured_here(headway: Headway) -> None:
    done = headway("profile", "x", "-t", "tensorrt")
    assert done.returncode == 4 and "leave --target out" in done.stderr
