"""`headway report`: the page, its place, and what is refused."""

import json
from pathlib import Path

import headway as library
from headway.exporter.export import Exported

from tests.support.command_line import Headway
from tests.support.reports import judged


def test_a_report_is_written_and_named(headway: Headway, bert_bundle: Exported, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    verdict = judged(bert_bundle.path, tmp_path / "verdict")
    done = headway("report", bert_bundle.path, "--stored", "--verdict", verdict, "-o", out)
    assert done.returncode == 0 and done.stdout.strip() == str(out)
    assert "FAIL" not in done.stderr and 'class="verdict fail"' in out.read_text(encoding="utf-8")
    done = headway("report", bert_bundle.path, "--stored", "-o", out, "--json")
    assert json.loads(done.stdout) == {"report": str(out)}
    assert headway("report", bert_bundle.path, "--stored", "-o", out, "-q").stdout == ""


def test_what_is_wrong_has_a_sentence_and_a_code(headway: Headway, bert_bundle: Exported, tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_text("[]")
    cases = [
        (["report", tmp_path / "nothing"], 3, "no such directory"),
        (["report", bert_bundle.path, "--verdict", tmp_path / "nothing"], 2, "no such file"),
        (["report", bert_bundle.path, "--verdict", tmp_path], 3, "an object is expected"),
        (["report", bert_bundle.path, "--sensitivity", tmp_path], 2, "no such file"),
        (["report", bert_bundle.path, bert_bundle.path], 2, "given twice"),
        (["report", bert_bundle.path, "--data", tmp_path / "none.txt"], 2, "none.txt"),
        (["report", bert_bundle.path, "-o", tmp_path / "none" / "r.html"], 2, "a directory that is there"),
    ]
    for words, code, message in cases:
        done = headway(*words, *([] if "-o" in words else ["-o", tmp_path / "r.html"]))
        assert (done.returncode, message in done.stderr) == (code, True), done.stderr


def test_the_same_from_python(bert_bundle: Exported, tmp_path: Path) -> None:
    assert library.report(bert_bundle.path, out=tmp_path / "r.html", stored=True) == tmp_path / "r.html"
