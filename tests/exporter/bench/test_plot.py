"""The plot of a measurement shows each case of each contestant, and the ratios."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from headway.exporter.bench import plot
from headway.exporter.bench.measure import BenchResult, CaseResult


def test_dots_and_ratios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    for axes, case in zip(figures[0].axes, cases, strict=True):
        assert axes.get_xscale() == "log" and axes.get_title() == case.label
        dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
        assert dots == [2.0, 5.0]
        assert [text.get_text() for text in axes.texts] == ["2", "5  ×2.50"]
    labels = [label.get_text() for label in figures[0].axes[0].get_yticklabels()]
    assert labels == ["ours", "…" + "x" * 34]
    assert figures[0].get_suptitle() == "a processor, 2 threads"
    assert "logarithmic scale" in figures[0].get_supxlabel()


@pytest.mark.parametrize("growth", [1.0, 1.05, 1.2, 1.25, 1.4, 1.8])
def test_words_of_many_contestants_stay_in_their_panels(
    growth: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"path/to/rival-{i}" for i in range(9)]
    times = {name: [200.0 * growth**i] * 2 + [300.0 * growth**i] for i, name in enumerate(names)}
    cases = [CaseResult(label, 1, 32, 0.0, times) for label in ("1x32", "1x128", "8x128", "1x512", "32xmixed")]
    drawn: list[Figure] = []
    monkeypatch.setattr(plot, "save_figure", lambda figure, _: (figure.canvas.draw(), drawn.append(figure)))
    plot.plot_bench(BenchResult(names, 1, cases, {}), tmp_path / "latency.png")
    for axes in drawn[0].axes:
        panel = axes.get_window_extent()
        boxes = [text.get_window_extent() for text in axes.texts]
        assert all(panel.x0 <= box.x0 and box.x1 <= panel.x1 for box in boxes)
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        ticks = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        assert len(ticks) >= 1 and not any(a.overlaps(b) for i, a in enumerate(ticks) for b in ticks[:i])
