"""Latency in a report: what was measured is drawn and tabled, and what was not is named."""

from pathlib import Path

import numpy as np
import pytest

from headway.exporter.export import Exported
from headway.exporter.validate.report.latency_figures import latency_section, load_section
from headway.exporter.validate.report.report_inputs import ReportBundle, read_bundles

from tests.support.reports import gate, judged, three


@pytest.fixture(scope="module")
def bundles(bert_bundle: Exported, tmp_path_factory: pytest.TempPathFactory) -> list[ReportBundle]:
    return three(bert_bundle.path, tmp_path_factory.mktemp("latency"))


def test_the_spread_and_the_growth_of_latency(bundles: list[ReportBundle]) -> None:
    section = latency_section(bundles)
    spread, length, batch = section.figures
    assert spread.table is not None and length.table is not None and length.title == "Latency against length"
    assert spread.table.rows == [["half", "400", "10 [9, 11]", "14 [12.6, 15.4]", "–"]]
    assert [row[:2] for row in length.table.rows][:2] == [["half", "1x32"], ["beside it: PyTorch", "1x32"]]
    median = float(np.median([1.6 * (1 + i / 100) for i in range(15)]))
    assert length.table.rows[0][4].startswith(f"{median:.3g} [")
    assert (
        batch.title == "Latency against batch"
        and "half, 8x128" in batch.drawing.svg()
        and "half, 1x32" not in batch.drawing.svg()
    )
    assert [words.split(" was")[0] for words in section.missing] == [
        "plain, quarter: the spread of latency",
        "plain, quarter: latency by length and batch",
    ]


def test_the_tail_of_few_samples_is_not_drawn(bundles: list[ReportBundle]) -> None:
    drawing = latency_section(bundles).figures[0].drawing.svg()
    assert "half: 98 % within" in drawing and "half: 99 % within" not in drawing


def test_load_threads_batches_and_warm_up(bundles: list[ReportBundle]) -> None:
    section = load_section(bundles)
    titles = [figure.title for figure in section.figures]
    assert titles == [
        "A server's late answers by its load",
        "A server's p99 by its load",
        "half: throughput against batch",
        "half: throughput against p99",
        "half: warm-up",
    ]
    late, tail, batch, _, warm = section.figures
    assert late.table is not None and late.table.rows[1] == ["half", "90.0", "60.0 % of 500", "–"]
    assert "71.0 queries/s, p99 39" in tail.drawing.svg() and "90.0 queries/s, p99" not in tail.drawing.svg()
    assert (
        batch.legend == ["1 thread", "2 threads"]
        and warm.table is not None
        and warm.table.rows[0] == ["1", "20", "20", "20"]
    )
    assert (
        len(section.missing) == 1
        and section.missing[0].startswith("plain, quarter:")
        and "--sweep" in section.missing[0]
    )


def test_figures_without_points_are_left_out(bert_bundle: Exported, tmp_path: Path) -> None:
    cells = [dict(cell, texts_per_second=None) for cell in gate("")["figures"]["sweep"]]
    figures = {"sweep": cells, "warm_up_ms": [[]], "server": {"capacity": {"rate": 0.0, "trials": []}, "bound_ms": 5.0}}
    found = read_bundles([bert_bundle.path], [judged(bert_bundle.path, tmp_path, **figures)])
    assert not load_section(found).figures
