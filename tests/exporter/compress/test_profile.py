"""What heads, neurons and ranks of a source cost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from headway.errors import UsageError
from headway.exporter.compress.profile import profile_model


def headway(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headway.exporter.cli.app", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_line_profiles(classifier: Path) -> None:
    done = headway("profile", classifier, "--shape", "1x8", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["heads"]["0"] == 0.0


def test_a_profile_is_taken_at_the_lengths_of_the_text(classifier: Path, text: Path) -> None:
    levels: list[str] = []
    table = profile_model(
        str(classifier),
        task=None,
        data=text,
        shapes=[],
        threads=1,
        refresh=False,
        on_step=lambda name, **_: levels.append(name),
    )
    assert len(table.workload.shapes) == 4 and all(count == 1 for count, _ in table.workload.shapes)
    named = text.with_name("named.csv")
    named.write_text("body,text\n" + "\n".join(f"the price of bread {i}," for i in range(20)))
    asked = {"task": None, "data": named, "shapes": [], "threads": 1, "refresh": False}
    with pytest.raises(UsageError, match="holds no text"):
        profile_model(str(classifier), **asked)  # type: ignore[arg-type]
    assert profile_model(str(classifier), column="body", **asked).full > 0  # type: ignore[arg-type]
    assert levels[0] == "capture the graph" and "measure latency, 0 heads" in levels and table.full > 0
    with pytest.raises(UsageError, match="a batch of 99 tokens is longer than the 66 tokens this model takes"):
        profile_model(str(classifier), task=None, data=None, shapes=[(1, 99)], threads=1, refresh=False)
