"""Passes and sensitivities in a report."""

from dataclasses import replace

import pytest

from headway.exporter.export import Exported
from headway.exporter.validate.report.pass_figures import pass_section, sensitivity_section
from headway.exporter.validate.report.report_inputs import ReportBundle

from tests.support.reports import compression, three


@pytest.fixture(scope="module")
def bundles(bert_bundle: Exported, tmp_path_factory: pytest.TempPathFactory) -> list[ReportBundle]:
    return three(bert_bundle.path, tmp_path_factory.mktemp("passes"))


def test_a_waterfall_has_what_each_pass_changed(bundles: list[ReportBundle]) -> None:
    section = pass_section(bundles)
    assert [f.title for f in section.figures][:3] == ["half: size", "half: latency", "half: quality"]
    size, _, quality = section.figures[:3]
    assert "remove: 80 → 20 (-60)" in size.drawing.svg() and 'class="bar c2"' in size.drawing.svg()
    assert "remove: 90 → 88.5 (-1.5)" in quality.drawing.svg() and 'class="bar c5"' in quality.drawing.svg()
    assert size.table is not None and size.table.rows[1] == ["remove", "20", "2", "88.50", "heads: 12 → 6"]
    assert section.missing == ["plain: no pass; an export of the source."]


def test_a_pass_that_was_undone_is_no_gain(bundles: list[ReportBundle]) -> None:
    stored = compression()
    again = stored["stages"][1] | {"name": "split", "undone": True}
    stored["stages"].append(again)
    section = pass_section([replace(bundles[1], manifest=replace(bundles[1].manifest, compression=stored))])
    size = section.figures[0]
    assert size.table is not None and size.table.rows[2][0] == "split (undone)"
    assert "split (undone): 20 → 20 (+0)" in size.drawing.svg() and size.drawing.svg().count('class="bar c2"') == 1


def test_sensitivities_of_compressions_and_of_files(bundles: list[ReportBundle]) -> None:
    content = {
        "model": "source",
        "unit": "u",
        "noise_floor": 0.1,
        "groups": [{"name": f"g{i}", "error": i} for i in range(80)],
    }
    section = sensitivity_section(bundles, [content])
    assert [f.title for f in section.figures] == ["half", "quarter", "source"] and not section.missing
    first, _, last = section.figures
    assert first.table is not None and last.table is not None
    assert first.table.rows == [["block 0 query", "0.002", "yes"], ["block 1 query", "4e-05", "no"]]
    assert (
        "The 60 largest of 80 are drawn" in last.words
        and len(last.table.rows) == 80
        and "g10:" not in last.drawing.svg()
    )


def test_what_was_not_measured_is_named(bundles: list[ReportBundle]) -> None:
    section = sensitivity_section(bundles[:1], [])
    assert not section.figures and "headway sensitivity" in section.missing[0]
