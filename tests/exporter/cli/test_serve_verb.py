"""`headway serve`: what is refused before anything listens, and the page of target web."""

from pathlib import Path

import pytest

from headway.exporter.export import Exported

from tests.support.command_line import Headway

pytest.importorskip("uvicorn", reason="the extra serve is not installed")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--p99", "fast"], "--p99 'fast'"),
        (["--timeout", "1h"], "--timeout '1h'"),
        (["--timeout", "0s"], "--timeout is 0 seconds"),
        (["--max-mb", "nan"], "--max-mb"),
        (["--max-mb", "inf"], "--max-mb inf"),
        (["--tls-cert", "c.pem"], "both files"),
    ],
)
def test_wrong_options(headway: Headway, bert_bundle: Exported, words: list[str], says: str) -> None:
    done = headway("serve", bert_bundle.path, *words)
    assert done.returncode == 2 and says in done.stderr


def test_what_is_no_bundle_is_not_served(headway: Headway, tmp_path: Path) -> None:
    done = headway("serve", tmp_path, "--port", "0")
    assert done.returncode == 3 and "not a Headway bundle" in done.stderr


def test_bundles_of_the_same_name_are_refused(headway: Headway, bert_bundle: Exported) -> None:
    done = headway("serve", bert_bundle.path, bert_bundle.path)
    assert done.returncode == 2 and "two bundles are called" in done.stderr


def test_without_the_extra_the_extra_is_named(
    headway: Headway, bert_bundle: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headway.exporter.cli import shared

    monkeypatch.setattr(shared, "find_spec", lambda name: None if name == "uvicorn" else object())
    done = headway("serve", bert_bundle.path)
    assert done.returncode == 4 and "this needs uvicorn" in done.stderr and "headway[serve]" in done.stderr


def test_a_page_is_shown_by_its_own_server(headway: Headway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headway.exporter.cli import serve_verb

    shown: list[tuple[Path, int]] = []
    monkeypatch.setattr(serve_verb, "_serve_page", lambda bundle, port: shown.append((bundle, port)))
    (tmp_path / "index.html").write_text("page")
    assert headway("serve", tmp_path, "-p", "0").returncode == 0 and shown == [(tmp_path, 0)]
    for words in (("--host", "0.0.0.0"), ("--tls-cert", "c.pem")):
        done = headway("serve", tmp_path, *words)
        assert done.returncode == 2 and "on this machine alone, without TLS" in done.stderr
    assert len(shown) == 1
