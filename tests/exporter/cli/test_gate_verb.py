"""`headway gate`: verdict, exit code, table, and what is refused."""

import json
import sys
from pathlib import Path

import pytest

from headway.exporter.export import Exported
from headway.exporter.validate import gate_bundle as module
from headway.exporter.validate import processes, scenarios

from tests.support.command_line import Headway
from tests.support.gating import blocks
from tests.support.simulated import crashing_worker


def test_a_verdict_has_its_exit_code(
    headway: Headway, bert_bundle: Exported, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "run_block", blocks())
    words = ["gate", bert_bundle.path, "--quick", "-g", "max_mb=5", "-g", "cold_start_ms=200"]
    done = headway(*words, "-o", tmp_path / "out")
    assert done.returncode == 0 and done.stdout.startswith("PASS: bert-bundle: all gates")
    assert "cold_start_ms: start 20, import 30" in done.stdout and str(tmp_path / "out" / "gate.xml") in done.stdout
    done = headway(*words, "-g", "max_rss_mb=50")
    assert done.returncode == 1 and "FAIL: bert-bundle: max_rss_mb" in done.stderr
    done = headway(*words, "--json")
    assert json.loads(done.stdout)["verdict"] == "pass"
    assert headway(*words, "-q").stdout == ""


def test_a_real_process_is_measured(headway: Headway, bert_bundle: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COLD_STARTS", 1)
    done = headway("gate", bert_bundle.path, "--quick", "-g", "max_rss_mb=5000", "--json")
    found = json.loads(done.stdout)
    assert found["verdict"] == "undecided" and done.returncode == 1  # one process has no interval
    assert found["figures"]["cold_starts"][0]["total_ms"] > 0


def test_a_crash_is_reported_with_what_was_there(
    headway: Headway, bert_bundle: Exported, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, crashing_worker()])
    words = ["gate", bert_bundle.path, "--quick", "-g", "max_mb=5", "-g", "cold_start_ms=900", "-o", tmp_path / "out"]
    done = headway(*words)
    assert done.returncode == 1 and "its runner crashed" in done.stderr
    content = json.loads((tmp_path / "out" / "gate.json").read_text(encoding="utf-8"))
    assert content["crash"] and [row["gate"] for row in content["gates"]] == ["max_mb"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-g", "p99_ms"], "a name and a limit are expected"),
        (["-g", "p98_ms=3"], "there is no such key"),
        (["--quick", "--long"], "give one of them"),
        ([], "nothing to judge by"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(
    headway: Headway, bert_bundle: Exported, words: list[str], message: str
) -> None:
    done = headway("gate", bert_bundle.path, *words)
    assert done.returncode == 2 and message in done.stderr


def test_a_changed_bundle_is_refused(headway: Headway, bert_bundle: Exported, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(bert_bundle.path, tmp_path / "copy"))
    content = bytearray((copy / "model.onnx").read_bytes())
    content[-1] ^= 1
    (copy / "model.onnx").write_bytes(content)
    done = headway("gate", copy, "-g", "max_mb=5")
    assert done.returncode == 3 and "model.onnx" in done.stderr


def wrong(headway: Headway, code: int, message: str, *words: object) -> None:
    done = headway("gate", *words)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_data_that_cannot_judge_is_refused(headway: Headway, bert_classifier: Path, tmp_path: Path) -> None:
    assert headway("export", bert_classifier, "-o", tmp_path / "bundle", "-q").returncode == 0
    words = (tmp_path / "bundle", "-g", "max_quality_drop=1", "-a", bert_classifier)
    wrong(headway, 2, "max_quality_drop needs labeled text: give --data", *words)
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"text": "a text"}) + "\n")
    wrong(headway, 2, "label", *words, "-d", data)
    data.write_text(json.dumps({"tokens": ["a", "word"], "tags": ["O", "B-PER"]}) + "\n")
    wrong(headway, 2, str(data), *words, "-d", data)
    data.write_text("\n".join(json.dumps({"text": "a text", "label": "sport"}) for _ in range(3)))
    wrong(headway, 2, "sport", *words, "-d", data)
    (tmp_path / "empty.txt").write_text("\n \n")
    wrong(headway, 2, "empty.txt", tmp_path / "bundle", "-g", "p50_ms=9", "-d", tmp_path / "empty.txt")


def test_locks_of_other_machines_and_of_changed_bundles(
    headway: Headway, bert_bundle: Exported, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "run_block", blocks())
    assert headway("gate", bert_bundle.path, "--lock", "--quick", "-o", tmp_path, "-q").returncode == 0
    lock = tmp_path / "headway.lock"
    content = json.loads(lock.read_text(encoding="utf-8"))
    words = (bert_bundle.path, "--quick", "--baseline")
    other = tmp_path / "other.lock"
    other.write_text(json.dumps(content | {"machine": content["machine"] | {"cpu": "Another"}}))
    wrong(headway, 2, "was written on another kind of machine", *words, other)
    other.write_text(json.dumps(content | {"source": "another"}))
    wrong(headway, 2, "is the lock of another model", *words, other)
    other.write_text(lock.read_text(encoding="utf-8")[:-200])
    wrong(headway, 3, "not valid JSON", *words, other)
    lock.write_text(json.dumps(content | {"artifact": "other bytes"}))
    done = headway("gate", *words, lock)
    assert done.returncode == 0 and "the bundle changed since its lock" in done.stdout


def test_without_load_generator_the_closed_loop_is_named(
    headway: Headway, bert_bundle: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenarios, "available", lambda: False)
    wrong(headway, 4, "give --scenario closed-loop", bert_bundle.path, "-g", "p50_ms=9")


def test_a_sweep_is_written(
    headway: Headway, bert_bundle: Exported, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "run_block", blocks())
    assert headway("gate", bert_bundle.path, "--quick", "--sweep", "-o", tmp_path).returncode == 0
    figures = json.loads((tmp_path / "gate.json").read_text(encoding="utf-8"))["figures"]
    assert figures["sweep"] and len(figures["warm_up_ms"]) == 3
