"""The plot of a measurement shows each case of each contestant, and the ratios."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from headway.exporter.bench import plot
from headway.exporter.bench.measure import BenchResult, CaseResult


def test_bars_and_ratios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    save = plot.save_figure

    def keep(figure: Figure, path: Path) -> None:
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(plot, "save_figure", keep)
    cases = [CaseResult(label, 1, 32, 0.0, {"ours": [2.0] * 3, "x" * 50: [5.0] * 3}) for label in ("1x32", "1x128")]
    result = BenchResult(["ours", "x" * 50], 2, cases, {"cpu": "a processor"})
    plot.plot_bench(result, tmp_path / "latency.png")
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figures[0].axes
    assert sorted(round(bar.get_height(), 3) for bar in axes.patches) == [2.0, 2.0, 5.0, 5.0]
    assert axes.get_yscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1x32", "1x128"]
    assert [text.get_text() for text in axes.texts].count("5.0\n×2.50") == 2
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["ours", "…" + "x" * 38]
    assert axes.get_title() == "a processor, 2 threads"
