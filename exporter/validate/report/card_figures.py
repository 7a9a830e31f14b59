"""Put the figures of a report into a bundle's card as PNG. What its passes did is drawn there when it is compressed."""

import re
from collections.abc import Sequence

from ...bench.bench_bundle import revised
from ...publish.html_report.png_chart import write_png
from ...publish.html_report.report_page import Section
from .report_inputs import ReportBundle

_PREFIX = "report-"


def save_figures(bundle: ReportBundle, sections: Sequence[Section]) -> None:
    """Replace the bundle by one whose card shows the figures of these sections, in their order, in place of those of an earlier report.

    Raises SourceError where a file of the bundle was changed; the bundle stays as it was on every error.
    """
    figures = [figure for section in sections for figure in section.figures]
    with revised(bundle.path, bundle.manifest) as staging:
        folder = staging / "plots"
        folder.mkdir(exist_ok=True)
        for old in folder.glob(f"{_PREFIX}*.png"):
            old.unlink()
        for number, figure in enumerate(figures, 1):
            if figure.drawing is not None:
                title = figure.title.removeprefix(f"{bundle.name}: ")
                title = title[:1].upper() + title[1:]
                name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
                write_png(figure.drawing, title, figure.legend, folder / f"{_PREFIX}{number:02d}-{name}.png")
