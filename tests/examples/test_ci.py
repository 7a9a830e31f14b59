"""The job that gates a bundle: valid, and its command runs."""

import shlex
from pathlib import Path

import pytest
import yaml

from headway.exporter.export import Exported
from headway.exporter.validate import gate_bundle as module

from tests.support.command_line import Headway
from tests.support.gating import blocks

FOLDER = Path(__file__).parents[2] / "examples" / "ci"


def test_the_job_gates_a_bundle(
    headway: Headway, bert_bundle: Exported, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = yaml.safe_load((FOLDER / "gate.yml").read_text(encoding="utf-8"))["jobs"]["gate"]
    command, report = (step["run"] for step in job["steps"] if step.get("run", "").startswith("headway"))
    monkeypatch.setattr(module, "run_block", blocks())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundle").symlink_to(bert_bundle.path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "texts.txt").write_text("one text\nanother text\n")
    assert headway("gate", "bundle", "--lock", "--quick", "--data", "data/texts.txt").returncode == 0
    done = headway(*shlex.split(command)[1:], "--quick")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gate" / "gate.md").is_file() and (tmp_path / "gate" / "gate.json").is_file()
    done = headway(*shlex.split(report)[1:], "--stored")
    assert done.returncode == 0, done.stderr
    assert 'class="verdict pass"' in (tmp_path / "gate" / "report.html").read_text(encoding="utf-8")
