"""The text classifier from tickets to answers, as its page runs it."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe

from tests.support.kept import folder_of, shared_folder

RunExample = Callable[..., subprocess.CompletedProcess[str]]
Table = tuple[Path, dict[str, list[float]]]


@pytest.fixture(scope="module")
def table(tickets: dict[str, Path], run_example: RunExample, tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Return the folder of the bundles, and the figures of the printed table by bundle."""

    def make(folder: Path) -> None:
        done = run_example(
            "text_classifier/make_bundles.py", tickets["model"], tickets["few"], folder / "bundles", here=True
        )
        assert done.returncode == 0, done.stderr
        (folder / "printed.txt").write_text(done.stdout)

    folder = folder_of(shared_folder(tmp_path_factory) / "tickets-bundles", make)
    out, printed = folder / "bundles", (folder / "printed.txt").read_text()
    rows = [line.split() for line in printed.splitlines() if re.match(r"(float32|fast-cpu|smallest) ", line)]
    return out, {name: [float(figure) for figure in figures] for name, *figures in rows}


def rows_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_no_test_ticket_was_learned_from(tickets: dict[str, Path]) -> None:
    learned, tested = ({row["text"] for row in rows_of(path)} for path in (tickets["train"], tickets["test"]))
    assert len(learned) == 400 and len(tested) == 100 and not learned & tested


def test_tickets_are_the_same_each_time(tickets: dict[str, Path], run_example: RunExample, tmp_path: Path) -> None:
    assert run_example("text_classifier/tickets.py", tmp_path).returncode == 0
    assert (tmp_path / "train.jsonl").read_bytes() == tickets["train"].read_bytes()


@pytest.mark.slow
def test_all_bundles_are_made_and_know_the_classes(table: Table) -> None:
    out, figures = table
    assert list(figures) == ["float32", "fast-cpu", "smallest"]
    assert all((out / name / "headway.json").is_file() for name in figures)
    # A guess among four classes is right on 25 % of the tickets, give or take 3; these are learned.
    assert all(row[-1] > 90 for row in figures.values())


@pytest.mark.slow
def test_the_recipes_keep_their_promise(table: Table) -> None:
    """Both are smaller. Times of so small a model vary, and with them what the faster one leaves out, and which is the smaller."""
    _, figures = table
    assert max(figures["smallest"][0], figures["fast-cpu"][0]) < 0.5 * figures["float32"][0]


def test_lines_are_answered_in_their_order(tickets: dict[str, Path], run_example: RunExample, tmp_path: Path) -> None:
    bundle = export(Recipe(source=str(tickets["model"])), tmp_path / "bundle").path
    texts = ["the parcel with my lamp has not arrived", "please reset my password", "I was charged twice for the clock"]
    lines = [*texts, "", *("the screen of the camera has a crack" for _ in range(40))]  # more than a batch
    done = run_example("text_classifier/answer.py", bundle, stdin="\n".join(lines))
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [a["text"] for a in answers] == [line for line in lines if line]
    assert [a["label"] for a in answers[:4]] == ["delivery", "account", "billing", "defect"]
    assert all(0.25 <= a["probability"] <= 1 for a in answers)


def test_answering_imports_nothing_that_exports(examples: Path) -> None:
    script = (
        f"import runpy, sys; runpy.run_path({str(examples / 'text_classifier' / 'answer.py')!r}); import headway; headway.Bundle; "
        "print(sorted({'torch', 'pydantic', 'onnx', 'transformers', 'headway.exporter'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_failure_is_one_sentence_and_its_code(
    tickets: dict[str, Path], run_example: RunExample, tmp_path: Path
) -> None:
    missing = tmp_path / "model"
    shutil.copytree(tickets["model"], missing)
    (missing / "model.safetensors").unlink()
    arguments = [missing, tickets["few"], tmp_path / "out"]
    done = run_example("text_classifier/make_bundles.py", *arguments, here=True)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("no bundle: ") and "model.safetensors" in done.stderr
    assert not (tmp_path / "out" / "float32").exists()
