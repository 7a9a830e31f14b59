"""Bundles beside each other: merit, the front, and what cannot be compared."""

from dataclasses import replace

import pytest

from headway.exporter.export import Exported
from headway.exporter.validate.merit import Standing, merit
from headway.exporter.validate.report.bundle_figures import compare_section, standing_of
from headway.exporter.validate.report.report_inputs import ReportBundle

from tests.support.reports import compression, three


@pytest.fixture(scope="module")
def bundles(bert_bundle: Exported, tmp_path_factory: pytest.TempPathFactory) -> list[ReportBundle]:
    return three(bert_bundle.path, tmp_path_factory.mktemp("bundles"))


def test_a_bundle_stands_by_its_stored_figures(bundles: list[ReportBundle]) -> None:
    plain, half, _ = (standing_of(bundle) for bundle in bundles)
    assert isinstance(plain, Standing) and isinstance(half, Standing)
    assert (plain.speed.value, plain.saving, plain.lost.value) == (1, 1, 0)
    assert (half.speed.value, half.saving, half.lost.value) == (4, 4, 1.5)
    assert half.speed.low == pytest.approx(4 / 1.05) and (half.lost.low, half.lost.high) == (0.5, 2.5)


def test_bundles_are_ordered_by_merit_with_their_table(bundles: list[ReportBundle]) -> None:
    section = compare_section(bundles)
    ranked, quality = section.figures
    assert ranked.table is not None and [row[0] for row in ranked.table.rows] == ["half", "quarter", "plain"]
    assert ranked.table.rows[0][1].startswith(f"{merit(4, 4, 1.5):.3g} [") and ranked.table.rows[0][2].startswith("4 [")
    assert quality.table is not None and {row[0]: row[3] for row in quality.table.rows} == dict.fromkeys(
        ("plain", "half", "quarter"), "yes"
    )
    assert 'class="front"' in quality.drawing.svg() and not section.missing and "hides" in section.words


def test_what_something_beats_is_not_on_the_front(bundles: list[ReportBundle]) -> None:
    worse = replace(bundles[1], name="worse", manifest=replace(bundles[1].manifest, compression=compression(3.0, 4.0)))
    table = compare_section([*bundles, worse]).figures[1].table
    assert table is not None and {row[0]: row[3] for row in table.rows}["worse"] == "no"


def test_bundles_that_were_measured_otherwise_are_named(bundles: list[ReportBundle]) -> None:
    changed = compression(3.0)
    changed["workload"] = {"shapes": [[32, 512]], "threads": 16}
    far = replace(bundles[1], name="far", manifest=replace(bundles[1].manifest, compression=changed))
    section = compare_section([*bundles, far])
    assert section.missing == ["far: was measured on other batches, threads or text than half; compare them with care."]
    endless = compression()
    endless["stages"][-1]["latency_ratio"] = [0.5, float("inf")]
    standing = standing_of(replace(bundles[1], manifest=replace(bundles[1].manifest, compression=endless)))
    assert isinstance(standing, Standing) and standing.speed.low == standing.speed.value == standing.speed.high


def test_what_cannot_be_compared_is_named_and_left_out(bundles: list[ReportBundle]) -> None:
    plain, half, _ = bundles
    other = replace(
        plain, name="other", manifest=replace(plain.manifest, source=plain.manifest.source | {"fingerprint": "x"})
    )
    metric = replace(half, name="metric", manifest=replace(half.manifest, compression=compression(metric="F1")))
    rounded = replace(
        plain, name="rounded", manifest=replace(plain.manifest, parity=plain.manifest.parity | {"dtype": "float16"})
    )
    flat = compression()
    flat["stages"][-1]["ms"] = 0.0
    broken = replace(half, name="broken", manifest=replace(half.manifest, compression=flat))
    lost = replace(half, name="lost", manifest=replace(half.manifest, compression=compression(lost=-1e5)))
    section = compare_section([plain, half, other, metric, rounded, broken, lost])
    assert [words.split(":")[0] for words in section.missing] == ["other", "metric", "rounded", "broken", "lost"]
    assert section.figures[0].table is not None and len(section.figures[0].table.rows) == 2
