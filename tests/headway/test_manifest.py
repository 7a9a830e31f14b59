"""The manifest: read whole or refused with its path, and files by length and checksum; without numpy or a runtime."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from headway import manifest as module
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
    empty = ("session_options", "lowering", "libraries")
    block = {"heads": 2, "head_dim": 4, "intermediate_size": [8], "activation": ["Gelu"]}
    block |= {"gated": False, "merged_qkv": False, "disentangled": False}
    distance = {
        "name": "logits",
        "max_abs": 0.0,
        "max_rel": 0.0,
        "cosine": 1.0,
        "argmax_agreement": 1.0,
        "worst_case": "1 token",
    }
    content = {
        "schema_version": 1, "headway_version": "0", "target": "ort", "task": "feature-extraction",
        "artifact": "model.onnx", "inputs": tensors, "outputs": tensors, "tokenizer": tokenizer,
        "source": {"kind": "huggingface", "fingerprint": "0" * 64, "bytes": 5},
        "anatomy": {"parameters": 9, "bytes": 36, "embeddings": {"words": [3, 3]}, "blocks": [block]},
        "parity": {"ok": True, "dtype": "float32", "outputs": [distance]},
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


def tokenizer(**fields: object) -> dict:
    info = {"file": "folder/tokenizer.json", "max_length": 8, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    return {"tokenizer": info | fields}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tokenizer": {"file": "t"}}, "tokenizer.max_length: missing"),
        (tokenizer(max_length=10**9), "tokenizer.max_length: a number from 1 to 1048576"),
        (tokenizer(pad_id=-1), "tokenizer.pad_id: a number from 0"),
        (tokenizer(file="../tokenizer.json"), r"tokenizer.file: '../tokenizer.json' leads out"),
        (tokenizer(file="/etc/passwd"), r"tokenizer.file: '/etc/passwd' is no relative name"),
        ({"artifact": "a/../../model.onnx"}, "artifact: .* leads out"),
        ({"artifact": "C:\\model.onnx"}, "artifact: .* is no relative name"),
        ({"files": {"../x": {"sha256": "0" * 64, "bytes": 1}}}, "leads out"),
        ({"files": {"x": {"sha256": "0", "bytes": 1}}}, "64 hexadecimal digits"),
        ({"files": {"x": {"sha256": "0" * 64, "bytes": -1}}}, "files.x.bytes: a number from 0"),
        ({"inputs": [{"name": "x"}]}, r"inputs\[0\].dtype: missing"),
        ({"inputs": None}, "inputs: a list is expected, not None"),
        ({"labels": {"one": "a"}}, "labels: 'one' is no number"),
        ({"session_options": {"config": {"session.load_model_format": "ORT"}}}, "not on the list"),
        ({"session_options": {"custom_ops": "evil.so"}}, "session_options: 'custom_ops' is not on the list"),
        (
            {"session_options": {"providers": [["EvilExecutionProvider", {}]]}},
            "'EvilExecutionProvider' is not on the list",
        ),
        (
            {"session_options": {"providers": [["TensorrtExecutionProvider", {"trt_extra_plugin_lib_paths": "x"}]]}},
            "'trt_extra_plugin_lib_paths' is not on the list",
        ),
        ({"session_options": {"providers": [3]}}, "names, or pairs"),
        ({"parity": {"ok": True}}, "parity.dtype: missing"),
    ],
)
def test_a_manifest_that_is_not_understood_is_named(bundle: Path, fields: dict, reason: str) -> None:
    change(bundle, **fields)
    with pytest.raises(SourceError, match=reason) as caught:
        Manifest.read(bundle)
    assert str(bundle / MANIFEST) in str(caught.value)


def test_what_a_later_headway_adds_to_this_version_is_passed_over(bundle: Path) -> None:
    before = Manifest.read(bundle)
    change(bundle, unheard_of=1, **tokenizer(added="x"))
    assert Manifest.read(bundle) == before


def test_a_later_version_says_which_headway_reads_it(bundle: Path) -> None:
    change(bundle, schema_version=2, headway_version="0.7.1", tokenizer="changed since")
    with pytest.raises(
        SourceError, match=r"schema version 2, and this Headway reads up to 1: pip install 'headway>=0\.7\.1'"
    ):
        Manifest.read(bundle)


def test_an_older_version_is_upgraded_in_memory(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 1 stands for the older one: it called the artifact `model`."""
    raw = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    raw["model"] = raw.pop("artifact")
    (bundle / MANIFEST).write_text(json.dumps(raw), encoding="utf-8")
    written = (bundle / MANIFEST).read_bytes()
    monkeypatch.setattr(module, "SCHEMA_VERSION", 2)
    monkeypatch.setitem(module.UPGRADES, 1, lambda old: {**old, "artifact": old["model"]})
    manifest = Manifest.read(bundle)
    assert (manifest.schema_version, manifest.artifact) == (2, "model.onnx")
    assert (bundle / MANIFEST).read_bytes() == written


def test_a_manifest_that_is_no_json_or_missing_is_named(bundle: Path) -> None:
    (bundle / MANIFEST).write_text("[1]", encoding="utf-8")
    with pytest.raises(SourceError, match="schema version None"):
        Manifest.read(bundle)
    (bundle / MANIFEST).write_text("{", encoding="utf-8")
    with pytest.raises(SourceError, match="not valid JSON"):
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
    with pytest.raises(SourceError, match=r"model\.onnx: incomplete \(5 bytes expected, 3 there\)"):
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
