"""Verdicts and processes in a report."""

from pathlib import Path

from headway.exporter.export import Exported
from headway.exporter.validate.report.report_inputs import read_bundles
from headway.exporter.validate.report.verdict_figures import process_section, verdict_on

from tests.support.reports import gate, judged, stored


def test_a_verdict_has_its_gates_and_remarks(bert_bundle: Exported, tmp_path: Path) -> None:
    (bundle,) = read_bundles([bert_bundle.path], [judged(bert_bundle.path, tmp_path)])
    found = verdict_on(bundle)
    assert (found.word, found.line) == ("fail", "p99_ms 30 (≤ 20 ms) (1 judged in 30 s)")
    assert found.gates is not None and found.remarks == ["the machine took 7 % of the time away"]
    assert found.gates.rows[0] == ["p99_ms", "fail", "30 [27, 33] ms", "at most 20 ms", "slow"]
    assert found.gates.rows[1][:4] == ["parity", "pass", "yes", "agrees"]


def test_without_a_verdict_it_says_so(bert_bundle: Exported, tmp_path: Path) -> None:
    (bundle,) = read_bundles([bert_bundle.path], [])
    assert verdict_on(bundle).word == "not judged" and verdict_on(bundle).line.startswith("No verdict is stored.")
    (bundle,) = read_bundles([bert_bundle.path], [stored(gate("bert-bundle", "others"), tmp_path)])
    assert "on other bytes" in verdict_on(bundle).line and verdict_on(bundle).gates is None


def test_cold_starts_are_shown_in_parts(bert_bundle: Exported, tmp_path: Path) -> None:
    (bundle,) = read_bundles([bert_bundle.path], [judged(bert_bundle.path, tmp_path)])
    section = process_section([bundle])
    assert section.figures[0].table is not None and not section.missing
    assert section.figures[0].table.rows == [["bert-bundle", "20.0", "30.0", "40.0", "10.0", "3", "110 [99, 121]"]]
    (bundle,) = read_bundles([bert_bundle.path], [judged(bert_bundle.path, tmp_path, cold_starts=[{"load_ms": 1.0}])])
    assert not process_section([bundle]).figures and "not measured" in process_section([bundle]).missing[0]
