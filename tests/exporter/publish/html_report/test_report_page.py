"""The page: whatever it shows is text, it loads nothing, and browsers show it at two widths, light and dark."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from headway.exporter.publish.html_report.bar_chart import Bar, BarChart, Row
from headway.exporter.publish.html_report.report_page import Figure, Judged, Report, Section, Table, html_of

from tests.support.node import ROOT, needs_node

HOSTILE = "<script>injected=1</script><img src=x onerror=injected=2>\"'&{{ 7 * 7 }}"


def page(name: str) -> str:
    table = Table([name, "b"], [[name, name]])
    drawing = BarChart(name, [Row(name, [Bar(1.0, name, words=name)])], name)
    figure = Figure(name, name, drawing, [name], table)
    section = Section(name, [figure, Figure(name, table=table)], name, [name])
    return html_of(Report(name, [Judged(name, "undecided", name, table, [name])], [section], [name], name, [table]))


def test_a_hostile_name_is_text_everywhere() -> None:
    content = page(HOSTILE)
    assert content.count("<script>") == 1 and "<img" not in content
    assert "{{ 7 * 7 }}" in content and "49" not in re.sub(r"<style>.*?</style>", "", content, flags=re.S)


def test_it_loads_nothing_and_runs_its_own_script_alone() -> None:
    content = page("a name")
    assert (
        not re.search(r"(src|href)=\"(?!data:)", content)
        and "url(" not in content
        and "http" not in content.replace("http-equiv", "")
    )
    assert re.search(r"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-[\w+/]{43}='", content)


def test_every_figure_has_its_table() -> None:
    content = page("a name")
    assert content.count("<figure>") == 2 and content.count("<details>") == 1
    assert all("<table>" in figure for figure in re.findall(r"<figure>.*?</figure>", content, re.S))


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what a browser shows of a page with hostile names, by width and scheme."""
    place = tmp_path_factory.mktemp("report")
    (place / "report.html").write_text(page(HOSTILE), encoding="utf-8")
    return browsed(place / "report.html")


def browsed(file: Path) -> dict[str, Any]:
    folder = ROOT / "build" / "report"
    folder.mkdir(parents=True, exist_ok=True)
    command = ["node", ROOT / "tests" / "web" / "report.mjs", file, folder]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@needs_node
def test_browsers_show_it_at_both_widths_and_in_both_schemes(views: dict[str, Any]) -> None:
    assert set(views) == {f"{width} {scheme}" for width in (390, 1280) for scheme in ("light", "dark")}
    for view in views.values():
        assert view["overflow"] == 0 and view["errors"] == [] and len(view["requests"]) == 1
        assert view["injected"] is None and view["images"] == 0
        assert view["tip"] == HOSTILE and view["tables"] == view["figures"] == 2 and view["letters"] >= 9
    assert views["390 light"]["background"] == "rgb(255, 255, 255)" != views["390 dark"]["background"]
    assert views["390 light"]["columns"] == 1 < views["1280 light"]["columns"]
