"""`headway targets`: a table with reasons below it, or the same as JSON."""

import json

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
