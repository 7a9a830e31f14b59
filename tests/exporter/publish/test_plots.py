"""Plots of a card: written, and the same again."""

from pathlib import Path

import pytest

from headway.exporter.publish.plots import plot_losses, plot_sensitivity, plot_stages

STAGES = [
    {"name": "source", "nbytes": 4e6, "ms": 3.0, "quality": 91.0},
    {"name": "quantize", "nbytes": 1e6, "ms": 1.0, "quality": 90.5},
]
PLOTS = {
    "sensitivity": lambda path: plot_sensitivity(
        [{"name": "a", "error": 0.1}, {"name": "b", "error": 0.3}], "nats per text", 0.2, path
    ),
    "stages": lambda path: plot_stages(STAGES, "accuracy", path),
    "losses": lambda path: plot_losses([(0.0, 2.0), (60.0, 1.0), (120.0, 0.5)], path),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_a_picture_and_repeats(name: str, tmp_path: Path) -> None:
    for file in ("one.png", "two.png"):
        PLOTS[name](tmp_path / file)
    first, second = ((tmp_path / file).read_bytes() for file in ("one.png", "two.png"))
    assert first == second and first.startswith(b"\x89PNG") and len(first) > 5000
    assert b"Software" not in first and b"matplotlib" not in first.lower()
