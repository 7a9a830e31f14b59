"""Locks: written, read, and refused where they say nothing about a bundle, a machine or a text."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from headway.errors import UsageError
from headway.exporter.export import Exported
from headway.exporter.validate.lock import Lock, artifact_files, check_lock, identity_of, texts_of_run
from headway.exporter.validate.noise import machine_facts
from headway.manifest import Manifest

TEXTS = ["a text", ("a question", "its context")]
IDENTITY = {"source": "s", "task": "fill-mask", "artifact": "a"}


@pytest.fixture
def lock() -> Lock:
    blocks = (0.1, 0.11, 0.12, 0.13, 0.14)
    return Lock(
        blocks, "s", "fill-mask", "a", texts_of_run(TEXTS), 1, 10.0, 100.0, (1.0, 2.0), 3.0, machine=machine_facts(1)
    )


def test_a_lock_survives_its_file(lock: Lock, tmp_path: Path) -> None:
    lock.write(tmp_path / "headway.lock")
    assert Lock.read(tmp_path / "headway.lock") == lock
    content = json.loads((tmp_path / "headway.lock").read_text(encoding="utf-8"))
    assert content["kind"] == lock.kind and content["ratio"] == pytest.approx(1.1275, abs=1e-3)


def test_a_lock_of_the_same_model_machine_and_text_is_taken(lock: Lock) -> None:
    assert check_lock(lock, Path("x.lock"), IDENTITY, TEXTS, 1, machine_facts(1)) == []


def test_another_build_is_judged_with_a_remark(lock: Lock) -> None:
    (remark,) = check_lock(lock, Path("x.lock"), IDENTITY | {"artifact": "b"}, TEXTS, 1, machine_facts(1))
    assert "the bundle changed since its lock" in remark


def test_later_versions_are_named(lock: Lock) -> None:
    facts = machine_facts(1)
    then = facts | {"versions": facts["versions"] | {"onnxruntime": "1.0", "numpy": "1.0", "torch": "1.0"}}
    first, second = check_lock(replace(lock, machine=then), Path("x.lock"), IDENTITY, TEXTS, 1, facts)
    assert "onnxruntime 1.0 then" in first and "torch" not in first and "reference workload" in second


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"machine": {"cpu": "Another CPU"}}, "another kind of machine .Another CPU"),
        ({"source": "other"}, "another model"),
        ({"task": "other"}, "another model"),
        ({"threads": 2}, "give --threads 2"),
        ({"texts": "other"}, "give the same --data"),
    ],
)
def test_what_says_nothing_here_is_refused(lock: Lock, change: dict[str, object], message: str) -> None:
    if "machine" in change:
        change = {"machine": lock.machine | change["machine"]}  # type: ignore[operator]
    with pytest.raises(UsageError, match=message):
        check_lock(replace(lock, **change), Path("x.lock"), IDENTITY, TEXTS, 1, machine_facts(1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 9}, "another version"),
        ({"reference": "reference workload 0"}, "another version"),
        ({"blocks": [1.0]}, "changed or cut"),
        ({"blocks": "none"}, "changed or cut"),
        ({"blocks": [float("nan")] * 9}, "changed or cut|not valid JSON"),
        ({"machine": 3}, "changed or cut"),
        ({"machine": {"cpu": "x"}}, "changed or cut"),
        ({"mb": "many"}, "changed or cut"),
        ({"rss_mb": [1]}, "changed or cut"),
        ({"noise": None}, "changed or cut"),
    ],
)
def test_a_broken_lock_is_refused(lock: Lock, tmp_path: Path, change: dict[str, object], message: str) -> None:
    file = tmp_path / "headway.lock"
    lock.write(file)
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | change))
    with pytest.raises(Exception, match=message):
        Lock.read(file)


def test_what_is_no_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    for path in (tmp_path, tmp_path / "none", tmp_path / "list.json"):
        with pytest.raises(UsageError, match="no bundle and no lock"):
            Lock.read(path)


def test_a_bundle_is_known_by_its_source_and_its_bytes(bert_bundle: Exported) -> None:
    manifest = Manifest.read(bert_bundle.path)
    assert artifact_files(bert_bundle.path, manifest) == ["model.onnx", "model.onnx.data"]
    first = identity_of(bert_bundle.path, manifest)
    manifest.files["model.onnx.data"]["sha256"] = "0" * 64
    second = identity_of(bert_bundle.path, manifest)
    assert first["artifact"] != second["artifact"] and first["source"] == second["source"]
