"""Whole reports: what they show, how they say what is missing, and how browsers show them."""

import re
from pathlib import Path
from typing import Any

import pytest

from headway.errors import TargetError, UsageError
from headway.exporter.export import Exported
from headway.exporter.validate.report import write_report as module
from headway.exporter.validate.report.write_report import ReportRequest, write_report

from tests.exporter.publish.html_report.test_report_page import browsed
from tests.support.node import needs_node
from tests.support.reports import bench, compression, copied, judged, three

HOSTILE = "<script>injected=1</script>"


def texts(page: Path) -> str:
    return re.sub(r"<(style|script)>.*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.S)


@pytest.fixture(scope="module")
def whole(bert_bundle: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report on three bundles of which one has everything."""
    folder = tmp_path_factory.mktemp("whole")
    three(bert_bundle.path, folder)
    names = [folder / name for name in ("plain", "half", "quarter")]
    return write_report(ReportRequest(names, folder / "report.html", [folder / "verdict"]))


def test_a_report_has_everything_and_begins_with_the_verdict(whole: Path) -> None:
    assert 10_000 < whole.stat().st_size < 1_000_000
    content = texts(whole)
    heads = [re.sub("<.*?>", "", head) for head in re.findall(r"<h2>(.*?)</h2>", content, re.S)]
    assert heads == [
        "not judged plain",
        "fail half",
        "not judged quarter",
        "Bundles beside each other",
        "Latency",
        "Throughput and load",
        "Cold start and memory",
        "Passes",
        "Sensitivity by layer",
        "Time by operator",
        "Machine",
        "Reproduce it",
    ]
    assert content.count("<figure>") == content.count("<details>") >= 17
    for command in (
        "headway gate half --quick --gate p99_ms=20",
        "--sweep",
        "headway bench half --against PyTorch",
        "export --recipe",
    ):
        assert command in content
    assert str(whole.parent) not in content  # a page does not say where it was made
    assert "half (gate), half (bench)" in content.replace(", half (compression), quarter (compression)", "")


@needs_node
def test_browsers_show_a_whole_report(whole: Path) -> None:
    for view in browsed(whole).values():
        assert view["overflow"] == 0 and view["errors"] == [] and view["cut"] == []
        assert view["letters"] >= 9 and view["tip"] and view["first"].lower().startswith("not judged")


def test_without_figures_every_section_says_what_is_missing(bert_bundle: Exported, tmp_path: Path) -> None:
    content = texts(write_report(ReportRequest([bert_bundle.path], tmp_path / "r.html", stored=True)))
    assert content.count("not measured") + content.count("Not measured") >= 5
    assert "No verdict is stored." in content and "Not profiled: the report was made with --stored" in content


def test_a_hostile_bundle_is_text(bert_bundle: Exported, tmp_path: Path) -> None:
    measured = bench(HOSTILE, HOSTILE + "2")
    changed: dict[str, Any] = compression(metric=HOSTILE)
    changed["stages"][1] |= {"name": HOSTILE, "changes": {HOSTILE: HOSTILE}}
    changed |= {
        "sensitivity": {HOSTILE: 1.0},
        "sensitivity_unit": HOSTILE,
        "machine": {"cpu": HOSTILE, HOSTILE: HOSTILE},
    }
    path = copied(bert_bundle.path, tmp_path / "x<img src=x>", compression=changed, bench=measured)
    judged(path, path)
    page = write_report(ReportRequest([path], tmp_path / "r.html", stored=True))
    content = page.read_text(encoding="utf-8")
    assert content.count("<script>") == 1 and "<img" not in content and content.count("&lt;script&gt;") > 10


def test_a_bundle_that_does_not_run_here_is_named(
    bert_bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise TargetError("does not run in ONNX Runtime")

    monkeypatch.setattr(module, "kinds_of", fails)
    content = texts(write_report(ReportRequest([bert_bundle.path], tmp_path / "r.html")))
    assert "bert-bundle: was not profiled: does not run in ONNX Runtime." in content


def test_places_that_cannot_be_written_are_refused_first(
    bert_bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for out in (tmp_path, tmp_path / "none" / "report.html"):
        with pytest.raises(UsageError, match="a file in a directory that is there"):
            write_report(ReportRequest([bert_bundle.path], out))
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    with pytest.raises(UsageError, match="give fewer bundles"):
        write_report(ReportRequest([bert_bundle.path], tmp_path / "r.html", stored=True))
    assert not (tmp_path / "r.html").exists()
