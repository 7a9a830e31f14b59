"""Figures of a report in a bundle's card: those that were measured, in place of earlier ones, and none in a bundle that was changed."""

from pathlib import Path

import pytest

from headway.bundle import Bundle
from headway.errors import SourceError
from headway.exporter.export import Exported
from headway.exporter.validate.report import write_report as write_report_module
from headway.exporter.validate.report.write_report import ReportRequest

from tests.support.reports import three


def test_what_was_measured_is_in_the_card(
    bert_bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_report_module, "kinds_of", lambda *_: {"Attention": 1.0, "MatMul": 3.0})
    three(bert_bundle.path, tmp_path)
    half = tmp_path / "half"
    (half / "plots").mkdir(exist_ok=True)
    (half / "plots" / "report-99-of-before.png").write_bytes(b"old")
    write_report_module.write_report(ReportRequest([half], tmp_path / "report.html", save=True))
    names = [path.name for path in sorted((half / "plots").glob("report-*.png"))]
    assert names[0] == "report-01-latency-against-length.png"
    assert "shares-of-the-time" in names[-1]
    card = (half / "README.md").read_text(encoding="utf-8")
    assert all(f"(plots/{name})" in card for name in names) and "of-before" not in card
    Bundle.open(half)  # its checksums are those of the new files


def test_a_bundle_that_was_changed_stays_as_it_is(bert_bundle: Exported, tmp_path: Path) -> None:
    three(bert_bundle.path, tmp_path)
    half = tmp_path / "half"
    tokenizer = half / "tokenizer.json"
    tokenizer.write_bytes(tokenizer.read_bytes() + b" ")
    with pytest.raises(SourceError, match=r"tokenizer\.json"):
        write_report_module.write_report(ReportRequest([half], tmp_path / "report.html", stored=True, save=True))
    assert not list(half.glob("plots/report-*"))
