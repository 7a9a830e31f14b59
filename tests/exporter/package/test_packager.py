"""Packages for apps: what lies where, and that nothing is lost or invented."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from headway.errors import GateError, SourceError, UsageError
from headway.exporter.export import Exported, export
from headway.exporter.package import packager as packaging
from headway.exporter.package.packager import PACKAGE_FILE, SUMS_FILE, largest_tensors, package
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.source.license import declared_license
from headway.exporter.tokenizer.reader.native import NativeReader, library

MODEL = {"android": "src/main/assets/headway/model.ort", "ios": "Resources/headway/model.ort", "web": "model.ort"}
CODE = {"android": "src/main/kotlin/headway/Model.kt", "ios": "Sources/Model.swift", "web": "index.js"}


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
    original = mobile.path / "tokenizer.json"
    assert json.loads(small.read_text()) == json.loads(original.read_text())
    assert small.stat().st_size < 0.8 * original.stat().st_size
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
    tensors = largest_tensors(mobile.path, mobile.manifest)
    assert tensors[0] == ("bert.embeddings.word_embeddings.weight", 300 * 32 * 4)
    assert [n for _, n in tensors] == sorted((n for _, n in tensors), reverse=True)
    stock = largest_tensors(bert_bundle.path, bert_bundle.manifest)
    assert stock[0] == ("embeddings.word_embeddings.weight", 300 * 32 * 4)
    other = replace(mobile.manifest, artifact="model.pte")
    assert largest_tensors(mobile.path, other)[0][0].startswith("bert.embeddings.word_embeddings.weight")
