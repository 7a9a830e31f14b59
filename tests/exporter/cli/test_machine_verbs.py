"""`headway targets` and `headway cache`: a table, or the same as JSON."""

import json
from pathlib import Path

import numpy as np

from headway.exporter.compress.work import Work
from headway.exporter.recipe.targets import TARGETS

from tests.support.command_line import Headway


def test_targets_as_a_table_and_as_json(headway: Headway) -> None:
    states = json.loads(headway("targets", "--json").stdout)
    assert [state["name"] for state in states] == list(TARGETS)
    shown = headway("targets")
    assert shown.returncode == 0 and "build here" in shown.stdout
    for state in states:
        assert f" {state['name']} " in shown.stdout
        for what in ("build", "run"):
            if state[f"{what}_reason"]:
                assert f"{state['name']}, {what}: {state[f'{what}_reason']}" in shown.stdout.splitlines()


def test_what_is_kept_is_shown_and_cleared(headway: Headway, tmp_path: Path) -> None:
    work = Work(tmp_path / "work")
    work.values("timing", "a", lambda: {"ms": 1.0})
    work.arrays("evidence", "b", lambda: {"x": np.zeros(250_000, np.float64)})
    shown = headway("cache", "--work", work.folder)
    assert shown.returncode == 0 and "evidence" in shown.stdout and "2.0" in shown.stdout and "timing" in shown.stdout
    listed = json.loads(headway("cache", "--work", work.folder, "--json").stdout)
    assert {e["kind"]: e["bytes"] > 2_000_000 for e in listed["entries"]} == {"timing": False, "evidence": True}
    cleared = headway("cache", "--work", work.folder, "--clear")
    assert cleared.returncode == 0 and "2.0 MB cleared" in cleared.stdout and work.entries() == []
    assert json.loads(headway("cache", "--work", tmp_path / "nowhere", "--json").stdout)["entries"] == []
