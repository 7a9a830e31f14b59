"""`headway verify`, `bench`, `inspect` and `lint`: what they print, and what they refuse."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from headway.exporter import api
from headway.exporter.bench import device as bench_device
from headway.exporter.check.parity import OutputParity, Parity
from headway.exporter.export import Exported
from headway.exporter.verification import Verdict

from tests.support.agreements import AGREEMENT
from tests.support.command_line import Headway


def test_a_bundle_is_verified_inspected_and_measured(headway: Headway, bert_bundle: Exported, tmp_path: Path) -> None:
    bundle = bert_bundle.path
    done = headway("verify", bundle)
    assert done.returncode == 0 and "parity with the source" in done.stdout
    last, files = done.stdout.splitlines()[-1], len(bert_bundle.manifest.files)
    assert re.fullmatch(
        rf"compared \d\d+ batches with transformers .*, BertModel, and {files} files with their checksums", last
    )
    assert json.loads(headway("inspect", bundle, "--json").stdout)["task"] == "feature-extraction"
    done = headway("inspect", bundle, "--time", "--length", 8)
    assert done.returncode == 0 and "head_dim" in done.stdout and "measured share of time" in done.stdout
    untimed = headway("inspect", bundle, "--length", 8)
    assert untimed.returncode == 0 and "head_dim" in untimed.stdout and "share of time" not in untimed.stdout
    done = headway("bench", bundle, "-a", bundle / "model.onnx", "--rounds", 3, "-o", tmp_path / "bench")
    assert done.returncode == 0 and "geometric mean" in done.stdout
    assert done.stdout.splitlines()[-1] == str(tmp_path / "bench" / "bench.json")


def test_a_bundle_is_verified_on_several_files(headway: Headway, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def verify(*_: object, **options: Any) -> Verdict:
        asked.update(options)
        return Verdict(True, Parity([], []))

    monkeypatch.setattr(api, "verify", verify)
    assert headway("verify", "somewhere", "-d", "a.txt", "-d", "b.txt", "-q").returncode == 0
    assert asked["data"] == [Path("a.txt"), Path("b.txt")] and asked["column"] is None


def test_texts_are_read_from_the_column_that_is_named(headway: Headway, bert_bundle: Exported, tmp_path: Path) -> None:
    table = tmp_path / "tickets.csv"
    table.write_text("body,text\n" + "the price of bread,\n" * 3)
    for words in (["verify", bert_bundle.path], ["bench", bert_bundle.path, "--rounds", 3], ["profile", "nowhere"]):
        alone = headway(*words, "--column", "body")
        assert alone.returncode == 2 and "column 'body' is one of data, and no data is given" in alone.stderr
    for words in (["verify", bert_bundle.path], ["bench", bert_bundle.path, "--rounds", 3]):
        empty = headway(*words, "--data", table)
        assert empty.returncode == 2 and "holds no text" in empty.stderr
        assert headway(*words, "--data", table, "--column", "body", "-q").returncode == 0


@pytest.mark.parametrize("kind", ["parity", "quality"])
def test_a_bundle_that_differs_exits_with_1_and_the_next_step(
    kind: str, headway: Headway, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = OutputParity("logits", 1.0, 1.0, 0.5, 0.5, 2.0, 1e-4, "1 token")
    verdict = {
        "parity": Verdict(False, Parity([far], ["1 token"]), files=9, reference="torch, Net"),
        "quality": Verdict(False, None, "accuracy", 80.0, 90.0, 89.5, AGREEMENT, 9, "torch, Net"),
    }[kind]
    monkeypatch.setattr(api, "verify", lambda *_, **__: verdict)
    done = headway("verify", "somewhere")
    assert done.returncode == 1
    assert ("FAILED" if kind == "parity" else "accuracy: 80.00 points (the source has 90.00; 89.50") in done.stdout
    assert "somewhere: no longer agrees with its source on this text: export it again" in done.stderr
    assert ("others.csv (40)" in done.stdout and "80.00 (75.00 to 85.00)" in done.stdout) == (kind == "quality")
    what = "1 batch" if kind == "parity" else "100 texts"
    assert done.stdout.splitlines()[-1] == f"compared {what} with torch, Net, and 9 files with their checksums"
    as_json = headway("verify", "somewhere", "--json")
    assert as_json.returncode == 1 and json.loads(as_json.stdout) == json.loads(json.dumps(verdict.to_json()))


def test_options_that_do_not_fit(headway: Headway) -> None:
    done = headway("bench", "x", "--device", "adb", "--against", "y")
    assert done.returncode == 2 and "--against is not measured on a device: leave it out" in done.stderr
    done = headway("bench", "x", "--serial", "y")
    assert done.returncode == 2 and "belong to --device adb: add it" in done.stderr


@pytest.mark.parametrize("words", [[], ["--quiet"], ["--json"]])
def test_what_a_device_measured_is_shown(
    words: list[str], headway: Headway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = {"label": "1x32", "batch": 1, "tokens": 32, "runs": 200, "mean_ms": {"tool": 7.25}}
    machine = {"model": "Pixel 7", "cpu": "GS201", "system": "Android 14"}
    record = {"contestants": ["tool"], "threads": 1, "cases": [case], "machine": machine}
    file = tmp_path / "bench.json"
    monkeypatch.setattr(bench_device, "bench_on_device", lambda *_, **__: record)
    monkeypatch.setattr(bench_device, "keep_device_record", lambda *_, **__: [file])
    done = headway("bench", "x", "--device", "adb", *words)
    assert done.returncode == 0
    if words == ["--json"]:
        assert json.loads(done.stdout) == record
    elif words == ["--quiet"]:
        assert done.stdout == ""
    else:
        assert "Pixel 7" in done.stdout and "7.25" in done.stdout and done.stdout.splitlines()[-1] == str(file)


def test_findings_of_lint(headway: Headway, bert_bundle: Exported) -> None:
    done = headway("lint", bert_bundle.path, "-t", "x86-avx2")
    assert done.returncode == 0
    assert re.fullmatch(r"read [1-9]\d* nodes of model\.onnx for x86-avx2: nothing to say\n", done.stdout)
    done = headway("lint", bert_bundle.path, "-t", "tensorrt", "--json")
    findings = json.loads(done.stdout)
    assert done.returncode == 1 and {"severity", "where", "what"} == set(findings[0])
    shown = headway("lint", bert_bundle.path, "-t", "tensorrt").stdout.splitlines()
    assert shown[:-1] == [f"{f['where']}: {f['severity']}: {f['what']}" for f in findings]
    assert shown[-1].startswith("read ") and f"{len(findings)} error" in shown[-1]
    assert headway("lint", bert_bundle.path, "-t", "abacus").returncode == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["verify", "x", "--signature", "x.sig"], "--signature belongs to --key"),
        (["verify", "x", "--key", "key.pem", "--against", "y"], "--key checks the signature alone"),
        (["bench", "x", "--diff", "y", "--serial", "3"], "--diff shows two bundles alone"),
    ],
)
def test_options_that_would_be_left_out_are_refused(
    headway: Headway, words: list[str], says: str, tmp_path: Path
) -> None:
    result = headway(*[str(tmp_path) if word in ("x", "y") else word for word in words])
    assert result.returncode == 2 and says in result.stderr
