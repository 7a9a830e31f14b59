"""Exporting from Python: what it prints, and how it fails."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support import models

RunExample = Callable[..., subprocess.CompletedProcess[str]]


def test_it_exports_checks_and_runs(tmp_path: Path, run_example: RunExample) -> None:
    source = models.make_sentence_model(tmp_path / "source")
    done = run_example("export_from_python.py", source, tmp_path / "bundle", here=True)
    assert done.returncode == 0, done.stderr
    assert "sentence_embedding: at most " in done.stdout
    assert "sentence_embedding: float32 [2, 32]" in done.stdout
    assert (tmp_path / "bundle" / "headway.json").is_file()


def test_it_checks_on_the_text_it_is_given(tmp_path: Path, run_example: RunExample) -> None:
    source = models.make_model(tmp_path / "source")
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"the price of bread is {n}" for n in range(20)))
    done = run_example("export_from_python.py", source, tmp_path / "bundle", "--data", text, here=True)
    assert done.returncode == 0, done.stderr
    assert "data: text.txt" in (tmp_path / "bundle" / "recipe.yaml").read_text()


def test_a_failure_is_one_sentence_and_its_code(tmp_path: Path, run_example: RunExample) -> None:
    done = run_example("export_from_python.py", tmp_path / "nothing", tmp_path / "bundle")
    assert done.returncode == 3  # SourceError
    assert done.stderr.strip() == f"export failed: {tmp_path / 'nothing'}: no such file or directory"
    assert not (tmp_path / "bundle").exists()
