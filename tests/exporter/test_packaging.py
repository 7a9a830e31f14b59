"""Packages for apps: what lies where, that nothing is lost or invented, and that the code written is code."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tree_sitter
import tree_sitter_kotlin
import tree_sitter_swift
from tokenizers import Tokenizer

from headway.errors import GateError, SourceError, UsageError
from headway.exporter.export import Exported, export
from headway.exporter.package import app as packaging
from headway.exporter.package.app import PACKAGE_FILE, SUMS_FILE, largest_tensors, package
from headway.exporter.package.snippets.writers import WRITERS, snippet
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.source.license import declared_license
from headway.exporter.tokenizer.reader.native import NativeReader, library
from headway.manifest import Manifest, TensorInfo

import models

MODEL = {"android": "src/main/assets/headway/model.ort", "ios": "Resources/headway/model.ort", "web": "model.ort"}
CODE = {"android": "src/main/kotlin/headway/Model.kt", "ios": "Sources/Model.swift", "web": "index.js"}
GRAMMARS = {"android": tree_sitter_kotlin, "ios": tree_sitter_swift}


@pytest.fixture(scope="module")
def source(workshop: Path) -> Path:
    labels = {"id2label": {0: 'costs $10 "or" more', 1: "free"}, "label2id": {'costs $10 "or" more': 0, "free": 1}}
    return models.make_model(workshop / "labeled", "bert", "text-classification", **labels)


@pytest.fixture(scope="module")
def mobile(source: Path, workshop: Path) -> Exported:
    return export(make_recipe("test", source=str(source), target="ort-mobile"), workshop / "labeled-bundle")


@pytest.mark.parametrize("platform", ["android", "ios", "web"])
def test_everything_is_there_and_counted(platform, mobile: Exported, tmp_path: Path) -> None:
    done = package(mobile.path, platform, tmp_path / "out")
    assert (done.path / MODEL[platform]).read_bytes() == (mobile.path / "model.ort").read_bytes()
    on_disk = {p.relative_to(done.path).as_posix(): p.stat().st_size for p in done.path.rglob("*") if p.is_file()}
    assert done.files == on_disk
    sums = dict(reversed(line.split("  ")) for line in (done.path / SUMS_FILE).read_text().splitlines())
    assert set(sums) == set(on_disk) - {SUMS_FILE}
    for name, digest in sums.items():
        assert hashlib.sha256((done.path / name).read_bytes()).hexdigest() == digest
    code = (done.path / CODE[platform]).read_text()
    for tensor in (*mobile.manifest.inputs, *mobile.manifest.outputs):
        assert tensor.name in code and f"{tensor.dtype} [" in code
    about = json.loads((done.path / PACKAGE_FILE).read_text())
    assert about["platform"] == platform and all((done.path / f).is_file() for f in about["files"])
    assert MODEL[platform] in about["files"] and "onnxruntime" in (done.path / "README.md").read_text()


TEXT = "the price of ＢＲＥＡＤ é 漢字 🙂"


def expected_ids(bundle: Path) -> list[int]:
    return Tokenizer.from_file(str(bundle / "tokenizer.json")).encode(TEXT).ids


@pytest.mark.parametrize("platform", ["android", "ios"])
def test_phones_get_the_reader(platform, mobile: Exported, tmp_path: Path) -> None:
    out = package(mobile.path, platform, tmp_path / "out").path
    compact = next(out.rglob("tokenizer.bin"))
    assert compact.parent == (out / MODEL[platform]).parent and not list(out.rglob("tokenizer.json"))
    assert {p.name for p in (out / CODE[platform]).parent.glob("*.*")} == {
        "android": {"Model.kt", "Tokenizer.kt"},
        "ios": {"Model.swift", "Tokenizer.swift"},
    }[platform]
    native = next(out.rglob("headway_tokenizer.cc")).parent
    assert (native / "headway_tokenizer.h").is_file()
    assert (native / {"android": "CMakeLists.txt", "ios": "module.modulemap"}[platform]).is_file()
    if library() is not None:
        assert NativeReader(compact.read_bytes()).ids([TEXT]) == [expected_ids(mobile.path)]


def test_the_web_gets_the_tokenizer_without_white_space(mobile: Exported, tmp_path: Path) -> None:
    small = package(mobile.path, "web", tmp_path / "out").path / "tokenizer.json"
    whole = mobile.path / "tokenizer.json"
    assert json.loads(small.read_text()) == json.loads(whole.read_text())
    assert small.stat().st_size < 0.8 * whole.stat().st_size
    assert Tokenizer.from_file(str(small)).encode(TEXT).ids == expected_ids(mobile.path)


def test_a_tokenizer_that_the_reader_refuses_goes_as_a_file(
    mobile: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> list[Path]:
        raise SourceError("pre-tokenizer 'UnicodeScripts' is not read")

    monkeypatch.setattr(packaging, "write_reader", refuse)
    out = package(mobile.path, "android", tmp_path / "out").path
    small = out / "src/main/assets/headway/tokenizer.json"
    assert Tokenizer.from_file(str(small)).encode(TEXT).ids == expected_ids(mobile.path)
    assert "UnicodeScripts" in (out / "README.md").read_text() and not (out / "src/main/cpp").exists()


def test_a_budget_missed_says_by_how_much_and_writes_nothing(mobile: Exported, tmp_path: Path) -> None:
    done = package(mobile.path, "android", tmp_path / "fits", max_mb=1.0)
    total = done.nbytes / 1e6
    with pytest.raises(GateError) as caught:
        package(mobile.path, "android", tmp_path / "out", max_mb=total - 0.05)
    message = str(caught.value)
    assert "0.05 MB over" in message and f"{total:.2f} MB" in message
    assert "bert.embeddings.word_embeddings.weight 38,400 bytes" in message
    assert list(tmp_path.iterdir()) == [tmp_path / "fits"]
    with pytest.raises(UsageError, match="--max-mb nan"):
        package(mobile.path, "android", tmp_path / "out", max_mb=float("nan"))
    package(mobile.path, "android", tmp_path / "just", max_mb=done.nbytes / 1e6)


def test_the_command_s_exit_codes(mobile: Exported, bert_bundle: Exported, tmp_path: Path) -> None:
    def headway(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "headway.exporter.cli.app", "package", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    out = tmp_path / "out"
    missed = headway(mobile.path, "--for", "ios", "--out", out, "--max-mb", "0.1")
    assert missed.returncode == 1 and "over the 0.1 allowed" in missed.stderr and not out.exists()
    wrong = headway(bert_bundle.path, "--for", "android", "--out", out)
    assert wrong.returncode == 2 and "target ort does not run on android" in wrong.stderr and not out.exists()
    done = headway(mobile.path, "--for", "ios", "--out", out, "--max-mb", "1", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["bytes"] == sum(
        p.stat().st_size for p in out.rglob("*") if p.is_file()
    )


@pytest.mark.parametrize(
    "target, platform", [("litert", "ios"), ("coreml", "android"), ("executorch", "web"), ("ort", "web")]
)
def test_a_bundle_for_something_else_is_refused(target: str, platform, mobile: Exported) -> None:
    with pytest.raises(UsageError, match=f"target {target} does not run on {platform}.*--target"):
        snippet(replace(mobile.manifest, target=target), platform)


def test_a_broken_bundle_is_refused(mobile: Exported, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(mobile.path, broken)
    data = bytearray((broken / "model.ort").read_bytes())
    data[len(data) // 2] ^= 1
    (broken / "model.ort").write_bytes(data)
    with pytest.raises(SourceError, match=r"model\.ort: changed"):
        package(broken, "android", tmp_path / "out")
    (broken / "tokenizer.json").unlink()
    with pytest.raises(SourceError, match=r"tokenizer\.json: missing"):
        package(broken, "android", tmp_path / "out")
    with pytest.raises(SourceError, match="not a Headway bundle"):
        package(tmp_path, "android", tmp_path / "out")


def test_only_packages_are_replaced(mobile: Exported, tmp_path: Path) -> None:
    package(mobile.path, "ios", tmp_path / "out")
    with pytest.raises(UsageError, match="--force"):
        package(mobile.path, "android", tmp_path / "out")
    package(mobile.path, "android", tmp_path / "out", force=True)
    assert not (tmp_path / "out" / "Sources").exists()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match="no Headway bundle or package"):
        package(mobile.path, "ios", tmp_path / "photos", force=True)


def test_the_license_is_carried_and_never_invented(mobile: Exported, source: Path, tmp_path: Path) -> None:
    nothing = package(mobile.path, "ios", tmp_path / "nothing")
    assert "names none" in (nothing.path / "README.md").read_text()
    assert not [n for n in nothing.files if "LICENSE" in n]
    copy = tmp_path / "source"
    shutil.copytree(source, copy)
    (copy / "README.md").write_text(
        "---\nlanguage: en\nlicense: apache-2.0 # ours\ntags: [x]\n---\n# A model\nlicense: mit\n"
    )
    named = export(make_recipe("test", source=str(copy), target="ort-mobile"), tmp_path / "named")
    assert named.manifest.source["license"] == "apache-2.0"
    said = package(named.path, "web", tmp_path / "said")
    assert (said.path / "LICENSE-MODEL.txt").read_text() == "license: apache-2.0\n"
    assert json.loads((said.path / "package.json").read_text())["license"] == "apache-2.0"
    (named.path / "LICENSE").write_text("terms")
    held = package(named.path, "android", tmp_path / "held")
    assert (held.path / "src/main/assets/headway/LICENSE").read_text() == "terms"


@pytest.mark.parametrize(
    "card, license",
    [
        ("---\nlicense: 'mit'\n---\n", "mit"),
        ("---\nlanguage: en\n---\nlicense: mit\n", None),
        ("# no head\nlicense: mit\n", None),
        ("---\nlicense:\n  - mit\n---\n", None),
    ],
)
def test_what_a_card_declares(card: str, license: str | None, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card)
    assert declared_license(tmp_path) == license
    assert declared_license(None) is None


def test_largest_tensors_come_first(mobile: Exported, bert_bundle: Exported) -> None:
    found = largest_tensors(mobile.path, mobile.manifest)
    assert found[0] == ("bert.embeddings.word_embeddings.weight", 300 * 32 * 4)
    assert [n for _, n in found] == sorted((n for _, n in found), reverse=True)
    stock = largest_tensors(bert_bundle.path, bert_bundle.manifest)
    assert stock[0] == ("embeddings.word_embeddings.weight", 300 * 32 * 4)
    other = replace(mobile.manifest, artifact="model.pte")
    assert largest_tensors(mobile.path, other)[0][0].startswith("bert.embeddings.word_embeddings.weight")


def variants(manifest: Manifest) -> list[Manifest]:
    """The same model as other targets and tasks would have it."""
    choices = [replace(t, shape=["batch", "choices", "sequence"]) for t in manifest.inputs]
    odd = [TensorInfo("last hidden.state-0", "float32", ["batch", "sequence", 32])]
    config = {"session.enable_saved_runtime_optimizations": "1"}
    return [
        manifest,
        replace(manifest, inputs=choices, labels={}),
        replace(manifest, outputs=odd, session_options={"config": config}),
        replace(manifest, inputs=manifest.inputs[:1]),
        replace(manifest, inputs=[replace(t, dtype="int32") for t in manifest.inputs]),
    ]


@pytest.mark.parametrize("platform, target", [(p, t) for p in GRAMMARS for t in WRITERS[p]])
def test_the_code_parses(platform: str, target: str, mobile: Exported) -> None:
    """By the grammars of tree-sitter: an error anywhere in the tree is one in the code."""
    parser = tree_sitter.Parser(tree_sitter.Language(GRAMMARS[platform].language()))
    for manifest in variants(replace(mobile.manifest, target=target)):
        code = snippet(manifest, platform).text
        assert not parser.parse(code.encode()).root_node.has_error, code
    assert parser.parse(code.replace("{", "(", 1).encode()).root_node.has_error


@pytest.mark.skipif(shutil.which("node") is None, reason="JavaScript is checked by node")
def test_the_javascript_is_javascript(mobile: Exported, tmp_path: Path) -> None:
    for i, manifest in enumerate(variants(mobile.manifest)):
        path = tmp_path / f"{i}.mjs"
        path.write_text(snippet(manifest, "web").text)
        subprocess.run(["node", "--check", path], check=True, timeout=60)


def test_dtypes_without_a_form_are_refused(mobile: Exported) -> None:
    inputs = [replace(t, dtype="float16") for t in mobile.manifest.inputs]
    for platform in WRITERS:
        with pytest.raises(UsageError, match="dtype float16"):
            snippet(replace(mobile.manifest, inputs=inputs), platform)
    outputs = [replace(t, dtype="int64") for t in mobile.manifest.outputs]
    with pytest.raises(UsageError, match="is int64"):
        snippet(replace(mobile.manifest, outputs=outputs), "android")
