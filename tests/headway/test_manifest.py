"""The manifest: read whole or refused with its path, and files by length and checksum; without numpy or a runtime."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from headway.errors import SourceError
from headway.manifest import MANIFEST, Manifest, check_files, check_records, check_whole, file_records


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a directory of two files and a manifest that lists them."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "model.onnx").write_bytes(b"graph")
    (tmp_path / "folder" / "tokenizer.json").write_text("{}", encoding="utf-8")
    tensors = [{"name": "input_ids", "dtype": "int64", "shape": ["batch", "sequence"]}]
    tokenizer = {"file": "folder/tokenizer.json", "max_length": 8, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    empty = ("session_options", "source", "anatomy", "lowering", "parity", "libraries")
    content = {
        "schema_version": 1, "headway_version": "0", "target": "ort", "task": "feature-extraction",
        "artifact": "model.onnx", "inputs": tensors, "outputs": tensors, "tokenizer": tokenizer,
        "files": file_records(tmp_path), **{name: {} for name in empty},
    }  # fmt: skip
    (tmp_path / MANIFEST).write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def change(bundle: Path, **fields: object) -> None:
    content = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    (bundle / MANIFEST).write_text(json.dumps(content | fields), encoding="utf-8")


def test_what_is_written_is_read_again(bundle: Path) -> None:
    manifest = Manifest.read(bundle)
    assert manifest.inputs[0].shape == ["batch", "sequence"] and manifest.tokenizer.max_length == 8
    assert sorted(manifest.files) == ["folder/tokenizer.json", "model.onnx"]
    (bundle / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    assert Manifest.read(bundle) == manifest
    check_whole(bundle, manifest)
    check_files(bundle, manifest)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"schema_version": 2}, "schema version 2"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"tokenizer": {"file": "t"}}, "max_length"),
        ({"inputs": [{"name": "x"}]}, "dtype"),
        ({"inputs": None}, "a field is missing or unknown"),
    ],
)
def test_a_manifest_that_is_not_understood_is_named(bundle: Path, fields: dict, reason: str) -> None:
    change(bundle, **fields)
    with pytest.raises(SourceError, match=reason) as caught:
        Manifest.read(bundle)
    assert str(bundle / MANIFEST) in str(caught.value)


def test_a_manifest_that_is_no_json_or_missing_is_named(bundle: Path) -> None:
    (bundle / MANIFEST).write_text("[1]", encoding="utf-8")
    with pytest.raises(SourceError, match="schema version None"):
        Manifest.read(bundle)
    (bundle / MANIFEST).write_text("{", encoding="utf-8")
    with pytest.raises(SourceError, match="cannot be read"):
        Manifest.read(bundle)
    (bundle / MANIFEST).unlink()
    with pytest.raises(SourceError, match="not a Headway bundle"):
        Manifest.read(bundle)


def test_files_that_are_missing_cut_short_or_changed_are_named(bundle: Path) -> None:
    manifest = Manifest.read(bundle)
    (bundle / "model.onnx").write_bytes(b"GRAPH")
    check_whole(bundle, manifest)  # of the same length
    with pytest.raises(SourceError, match=r"model\.onnx: changed"):
        check_files(bundle, manifest)
    (bundle / "model.onnx").write_bytes(b"gra")
    with pytest.raises(SourceError, match=r"model\.onnx: missing or incomplete \(5 bytes expected\)"):
        check_whole(bundle, manifest)
    (bundle / "model.onnx").unlink()
    with pytest.raises(SourceError, match=r"model\.onnx: missing; copy"):
        check_records(bundle, manifest.files)
    manifest.files = {}
    with pytest.raises(SourceError, match="no checksums"):
        check_files(bundle, manifest)


@pytest.mark.parametrize("name", ["model.onnx", "folder/tokenizer.json"])
@pytest.mark.parametrize("change_of_length", [1, -1])
def test_any_file_that_is_longer_or_shorter_is_named(bundle: Path, name: str, change_of_length: int) -> None:
    manifest, content = Manifest.read(bundle), (bundle / name).read_bytes()
    (bundle / name).write_bytes(content + b" " if change_of_length > 0 else content[:-1])
    with pytest.raises(SourceError, match=name):
        check_whole(bundle, manifest)
    with pytest.raises(SourceError, match=name):
        check_files(bundle, manifest)


def test_a_manifest_needs_python_alone() -> None:
    code = "import sys, headway.manifest; print(*{'numpy', 'onnxruntime', 'tokenizers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
