"""The page of a front: it loads nothing, and pointing at a bundle says what it is and how it is made again."""

import re
from dataclasses import replace
from pathlib import Path

from headway.exporter.search.front_page import front_page

from tests.exporter.search.test_front_file import THREE, front
from tests.support.searching import record


def test_each_bundle_says_what_it_is_and_how_it_is_made_again() -> None:
    odd = replace(THREE.bundles[0], what="<script>alert(1)</script>")
    page = front_page(replace(THREE, bundles=[odd, *THREE.bundles[1:]]), [record(1, 1.0, 8.0, 50.0, why="because")])
    for bundle in THREE.bundles:
        tips = [t for t in re.findall(r"<title>(.*?)</title>", page) if t.startswith(f"{bundle.name}:")]
        assert len(tips) == 2 and all(bundle.command_line in tip for tip in tips)  # one in each drawing
    assert "<script>alert" not in page and "because" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page) and "default-src 'none'" in page


def test_an_empty_front_has_a_page(tmp_path: Path) -> None:
    assert "No trial has made a bundle so far." in front_page(front(), [])
