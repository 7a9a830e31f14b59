"""The documentation's site builds strictly: links, anchors and navigation hold, and nothing is fetched from elsewhere."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headway.replaced import lock

pytest.importorskip("mkdocs", reason="the site is built where '.[docs]' is installed")
ROOT = Path(__file__).parents[2]
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(https?:|//)|<link\b[^>]*\bhref=["']?(https?:|//)"""
)


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-P",  # the folder `headway` of the checkout is not the whole package
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        str(config),
        "--site-dir",
        str(site),
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    handle = lock(
        ROOT / "docs", wait=True
    )  # another process of the tests may build it, too, in the same folder of links
    assert handle is not None
    try:
        shutil.rmtree(ROOT / "build" / "namespace", ignore_errors=True)  # as in a clean checkout
        done = build(ROOT / "mkdocs.yml", folder)
    finally:
        os.close(handle)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


def test_every_page_is_built(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert pages == {path.relative_to(site) for path in site.rglob("*.html")} - {Path("404.html")}


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert not FETCHED.search(path.read_text(encoding="utf-8")), path
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:|//)", path.read_text(encoding="utf-8")), path


def test_public_names_are_documented(site: Path) -> None:
    text = (site / "reference" / "python-api.html").read_text(encoding="utf-8")
    assert 'id="headway.Bundle"' in text and 'id="headway.errors.UsageError"' in text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[a page](nowhere.md)", "nowhere.md"),
        ("[a part](index.md#nowhere)", "nowhere"),
        ("[a site](/index.md)", "index.md"),
    ],
)
def test_a_broken_link_fails(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Title\n\n{line}\n", encoding="utf-8")
    validation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nvalidation:\n")[1].split("\nnav:\n")[0]
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"site_name: test\nvalidation:\n{validation}\n", encoding="utf-8")
    done = build(config, tmp_path / "site")
    assert done.returncode != 0
    assert message in done.stderr
