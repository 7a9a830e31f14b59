"""A bundle is opened whole: one of two although each replaces the other, from listed files inside it, with their checksums."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest

from headway import Bundle
from headway import open as open_bundle
from headway.errors import SourceError, UsageError
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.manifest import MANIFEST, Manifest, file_records
from headway.opening import open_one

from tests.support import models, replacing

TEXT = "a large language model with small heads and layers of bread"


@pytest.fixture(scope="module")
def others(bert_bundle: Exported, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return a bundle, and another with other weights and another tokenizer, which cuts texts sooner."""
    folder = tmp_path_factory.mktemp("others")
    other = export(Recipe(source=str(models.make_model(folder / "source", seed=7))), folder / "other").path
    content = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    vocab = content["model"]["vocab"]
    first, second = vocab["bread"], vocab["large"]
    vocab["bread"], vocab["large"] = second, first
    (other / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    manifest = Manifest.read(other)
    manifest.files = file_records(other)
    (other / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return [bert_bundle.path, other]


@pytest.fixture
def copy(bert_bundle: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert_bundle.path, tmp_path / "copy"))


def write(bundle: Path, **fields: object) -> None:
    content = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    (bundle / MANIFEST).write_text(json.dumps(content | fields), encoding="utf-8")


@contextmanager
def replaced(place: Path, bundles: list[Path], how: str) -> Iterator[None]:
    command = [sys.executable, replacing.__file__, str(place), *map(str, bundles), how]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    try:
        yield
    finally:
        process.communicate(timeout=60)


@pytest.mark.parametrize("how", ["exchange", "steps"])
def test_each_opening_beside_replacement_is_one_of_the_two(how: str, others: list[Path], tmp_path: Path) -> None:
    """`benchmarks/opening.py` does 10,000."""
    answers = [Bundle.open(path, threads=1)([TEXT])["last_hidden_state"] for path in others]
    assert abs(answers[0] - answers[1]).max() > 1e-3
    opened = refused = 0
    with replaced(tmp_path / "out", others, how):
        while opened + refused < 40:
            try:
                answer = Bundle.open(tmp_path / "out", threads=1)([TEXT])["last_hidden_state"]
            except SourceError as error:
                assert "replaced again and again" in str(error)
                refused += 1
                continue
            assert any(answer.shape == a.shape and np.abs(answer - a).max() < 1e-5 for a in answers)
            opened += 1
    assert opened > 0


def test_what_is_replaced_without_end_is_said(copy: Path) -> None:
    tries = []

    def attempt() -> None:
        tries.append(1)
        (copy / MANIFEST).rename(copy / "before")
        shutil.copy(copy / "before", copy / MANIFEST)

    with pytest.raises(SourceError, match="replaced again and again"):
        open_one(copy, attempt)
    assert len(tries) > 10


def test_an_error_of_the_bundle_before_is_not_told(copy: Path) -> None:
    tries = []

    def attempt() -> str:
        tries.append(1)
        if len(tries) == 1:
            write(copy, bench=None)  # another manifest
            raise SourceError("of the bundle before")
        return "opened"

    assert open_one(copy, attempt) == "opened" and len(tries) == 2


def test_what_is_opened_is_compared_with_its_checksum(copy: Path) -> None:
    data = bytearray((copy / "model.onnx.data").read_bytes())
    data[1000] ^= 1
    (copy / "model.onnx.data").write_bytes(data)
    with pytest.raises(SourceError, match=r"model\.onnx\.data: changed since"):
        Bundle.open(copy)
    assert Bundle.open(copy, check=False)([TEXT])
    (copy / "model.onnx.data").write_bytes(data[:-1])
    for check in (True, False):
        with pytest.raises(SourceError, match=r"model\.onnx\.data: incomplete"):
            Bundle.open(copy, check=check)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json"])
@pytest.mark.parametrize("check", [True, False])
def test_what_is_opened_has_to_be_listed_and_inside(name: str, check: bool, copy: Path) -> None:
    records = Manifest.read(copy).files
    write(copy, files={k: v for k, v in records.items() if k != name})
    with pytest.raises(SourceError, match=f"{name}: not listed in headway.json"):
        Bundle.open(copy, check=check)
    write(copy, files=records)
    outside = copy.parent / f"outside-{name}"
    (copy / name).rename(outside)
    (copy / name).symlink_to(outside)
    with pytest.raises(SourceError, match=f"{name}: a link that leads out"):
        Bundle.open(copy, check=check)
    write(copy, files={})
    (copy / name).unlink()
    outside.rename(copy / name)
    with pytest.raises(SourceError, match="no checksums"):
        Bundle.open(copy, check=check)


@pytest.mark.parametrize("location", ["../outside.data", "/etc/passwd", "unlisted.data"])
def test_weights_outside_the_bundle_or_its_list_are_refused(location: str, copy: Path) -> None:
    model = onnx.load(copy / "model.onnx", load_external_data=False)
    entry = next(e for t in model.graph.initializer for e in t.external_data if e.key == "location")
    entry.value = location
    (copy / "model.onnx").write_bytes(model.SerializeToString())
    shutil.copy(copy / "model.onnx.data", copy.parent / "outside.data")
    shutil.copy(copy / "model.onnx.data", copy / "unlisted.data")
    write(copy, files={k: v for k, v in file_records(copy).items() if k != "unlisted.data"})
    with pytest.raises(SourceError, match=r"its weights: .*(leads out|no relative name)|unlisted.data: not listed"):
        Bundle.open(copy)


def test_a_bundle_in_a_hub_s_cache_opens(bert_bundle: Exported, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--me--mine" / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    blobs = tmp_path / "models--me--mine" / "blobs"
    shutil.copytree(bert_bundle.path, blobs)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(Path("..") / ".." / "blobs" / path.name)
    assert Bundle.open(snapshot)([TEXT])["last_hidden_state"].shape[0] == 1


def test_a_manifest_of_another_artifact_is_named(copy: Path) -> None:
    content = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
    write(copy, outputs=[content["outputs"][0] | {"name": "logits"}])
    with pytest.raises(SourceError, match="the outputs are logits, and the artifact's last_hidden_state"):
        Bundle.open(copy)
    write(copy, outputs=content["outputs"], tokenizer=content["tokenizer"] | {"pad_id": 5000})
    with pytest.raises(SourceError, match="pad_id: 5000 is no token"):
        Bundle.open(copy)


@pytest.mark.parametrize("path", [None, 5, b"bundle", ["bundle"]])
def test_what_is_no_path_is_refused(path: object) -> None:
    with pytest.raises(UsageError, match="opened by the path of its directory, not by"):
        open_bundle(path)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [-3, 0, True, "2", 1.5])
def test_what_is_no_number_of_threads_is_refused(threads: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"threads is {threads!r}; give at least 1"):
        Bundle.open(tmp_path, threads=threads)  # type: ignore[arg-type]
