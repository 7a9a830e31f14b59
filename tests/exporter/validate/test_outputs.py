"""What a gate writes: JSON, JUnit XML and Markdown, on a verdict and on a crash."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from headway.errors import UsageError
from headway.exporter.validate.estimates import Estimate
from headway.exporter.validate.gate_rows import Row
from headway.exporter.validate.outputs import GateResult, write_result

MACHINE = {"cpu": "a | b", "system": "Linux x86_64", "threads": 1}
ROWS = [
    Row("p50_ms", 12, Estimate(10, 9, 11, 500), "pass"),
    Row("p99_ms", 20, None, "undecided", "too\x01 few <samples>"),
    Row("max_mb", 90, Estimate.exact(91), "fail"),
    Row("parity", 1, Estimate.exact(1), "pass", "12 batches"),
]


def test_three_files_say_the_same(tmp_path: Path) -> None:
    result = GateResult("bundle", "quick", ROWS, ["a remark"], {"mb": 91.0}, MACHINE, 12.0)
    files = write_result(result, tmp_path / "out")
    content = json.loads(files[0].read_text(encoding="utf-8"))
    assert content["verdict"] == "fail" and [row["verdict"] for row in content["gates"]] == [r.verdict for r in ROWS]
    suite = ElementTree.parse(files[1]).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "2", "0")
    assert [case.find("failure").get("type") for case in suite if case.find("failure") is not None] == [
        "undecided",
        "fail",
    ]  # type: ignore[union-attr]
    page = files[2].read_text(encoding="utf-8")
    assert page.startswith("## FAIL: bundle: max_mb 91 (≤ 90 MB) (4 judged in 12 s)")
    assert "| p50_ms | ≤ 12 ms | 10 [9, 11] | pass |" in page and "| p99_ms | ≤ 20 ms | – | undecided |" in page
    assert "- a remark" in page


@pytest.mark.parametrize(
    ("rows", "begins"), [(ROWS[:1], "PASS: bundle: all gates"), (ROWS[:2], "UNDECIDED: bundle: p99_ms –")]
)
def test_the_line_names_what_decided(rows: list[Row], begins: str) -> None:
    assert GateResult("bundle", "quick", rows).line.startswith(begins)


def test_a_crash_fails_and_keeps_what_was_measured(tmp_path: Path) -> None:
    result = GateResult("bundle", "quick", ROWS[:1], crash="its runner crashed")
    assert result.verdict == "fail" and "crashed" in result.line
    files = write_result(result, tmp_path)
    suite = ElementTree.parse(files[1]).getroot()[0]
    assert (suite.get("tests"), suite.get("errors")) == ("2", "1")
    assert json.loads(files[0].read_text(encoding="utf-8"))["crash"] == "its runner crashed"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file"):
        write_result(GateResult("bundle", "quick"), tmp_path / "file")


def test_a_run_without_gates_says_so() -> None:
    assert GateResult("bundle", "quick", seconds=3).line == "PASS: bundle: measured in 3 s, and no gate was given"
