"""`headway package` and `tokenizer`: exit codes, and refusals with the next step."""

import json
import subprocess
from pathlib import Path

import pytest

from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe

from tests.support.command_line import Headway


@pytest.fixture(scope="module")
def mobile(bert: Path, workshop: Path) -> Exported:
    return export(Recipe(source=str(bert), target="ort-mobile"), workshop / "mobile-for-commands")


def test_exit_codes_of_package(headway: Headway, mobile: Exported, bert_bundle: Exported, tmp_path: Path) -> None:
    out = tmp_path / "out"
    missed = headway("package", mobile.path, "--for", "ios", "--out", out, "--max-mb", "0.1")
    assert missed.returncode == 1 and "over the 0.1 allowed" in missed.stderr and not out.exists()
    wrong = headway("package", bert_bundle.path, "--for", "android", "--out", out)
    assert wrong.returncode == 2 and "target ort does not run on android" in wrong.stderr and not out.exists()
    done = headway("package", mobile.path, "--for", "ios", "--out", out, "--max-mb", "1", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["bytes"] == sum(
        p.stat().st_size for p in out.rglob("*") if p.is_file()
    )


def test_tokenizers_of_both_kinds(headway: Headway, bert_bundle: Exported, tmp_path: Path) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return headway("tokenizer", bert_bundle.path, *arguments)

    done = run("--out", tmp_path / "phone", "--for", "android", "--json")
    assert done.returncode == 0
    assert set(json.loads(done.stdout)["files"]) == {p.name for p in (tmp_path / "phone").iterdir()}
    done = run("--out", tmp_path / "graph", "--for", "graph")
    assert done.returncode == 1 and "emoji" in done.stderr and not (tmp_path / "graph").exists()
    done = run("--out", tmp_path / "ios", "--for", "ios", "--accept", "emoji")
    assert done.returncode == 2 and "--accept goes with --for graph" in done.stderr


def test_a_folder_that_is_there_is_not_replaced(headway: Headway, bert_bundle: Exported, tmp_path: Path) -> None:
    done = headway("tokenizer", bert_bundle.path, "--for", "android", "-o", tmp_path)
    assert done.returncode == 2 and f"{tmp_path} exists; remove it, or give another --out" in done.stderr
