"""`headway search`: what it prints, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.errors import GateError
from headway.exporter.cli import search_verb, shared
from headway.exporter.search import run_search, where

from tests.exporter.search.test_front_file import THREE
from tests.support.command_line import Headway


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    requests: list[Any] = []

    def run(request: Any, hire: Any, step: Any) -> Any:
        requests.append(request)
        step("search, 3 trials, 3 bundles on the front", of=1000, at=500)
        return THREE

    monkeypatch.setattr(run_search, "search", run)
    return requests


def test_a_table_of_the_front(headway: Headway, asked: list[Any], tmp_path: Path) -> None:
    words = [
        "search",
        "model",
        "--data",
        "a.txt",
        "--out",
        tmp_path / "o",
        "--seed",
        3,
        "--samples",
        64,
        "--shape",
        "1x8",
    ]
    done = headway(*words, "--minutes", 5, "--trials", 7, "--memory", "--force")
    assert done.returncode == 0, done.stderr
    assert "front of 3 bundles, 3 trials" in done.stdout and "2.00 (1.00 to 3.00)" in done.stdout
    assert done.stdout.strip().endswith("front.html")
    (request,) = asked
    recipe = request.recipe
    assert (recipe.calibration.seed, recipe.calibration.samples, recipe.work.shapes) == (3, 64, [(1, 8)])
    assert (request.minutes, request.trials, request.rss, request.force, recipe.max_drop) == (5, 7, True, True, 10)
    done = headway("search", "model", "--data", "a.txt", "--out", tmp_path / "o", "--json", "--max-drop", 2)
    assert json.loads(done.stdout)["bundles"][0]["name"] == "001" and asked[1].recipe.max_drop == 2


def test_a_recipe_says_what_may_be_tried(headway: Headway, asked: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("source: model\ndata: a.txt\nmax_drop: 3\nsearch:\n  speedups: [1, 2]\n  quantize: [int8]\n")
    done = headway("search", "--recipe", file, "--out", tmp_path / "o", "--quiet", "--threads", 2)
    assert done.returncode == 0 and not done.stdout, done.stderr
    recipe = asked[0].recipe
    assert recipe.search.speedups == [1, 2] and recipe.max_drop == 3 and recipe.work.threads == 2
    file.write_text("source: model\ndata: a.txt\nsearch: {speed: [1]}\n")
    done = headway("search", "--recipe", file, "--out", tmp_path / "o")
    assert done.returncode == 2 and "recipe.yaml: search.speed: there is no such key" in done.stderr


def test_models_may_run_on_one_thread_and_not_on_none(headway: Headway, asked: list[Any], tmp_path: Path) -> None:
    words = ["search", "model", "--data", "a.txt", "--out", tmp_path / "o", "--quiet", "--threads"]
    assert headway(*words, 1).returncode == 0 and asked[0].recipe.work.threads == 1
    done = headway(*words, 0)
    assert done.returncode == 2 and "--threads" in done.stderr and len(asked) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--data", "a.txt"], "give a SOURCE, or a --recipe that names one"),
        (["model"], "a search needs text like production's: give --data"),
    ],
)
def test_what_is_missing_is_named(headway: Headway, tmp_path: Path, words: list[str], says: str) -> None:
    done = headway("search", *words, "--out", tmp_path / "o")
    assert done.returncode == 2 and says in done.stderr and not (tmp_path / "o").exists()


def test_a_library_that_is_missing_is_named(headway: Headway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared, "find_spec", lambda name: None if name == "optuna" else object())
    done = headway("search", "model", "--data", "a.txt", "--out", tmp_path / "o")
    assert done.returncode == 4 and "this needs optuna" in done.stderr and "headway[search]" in done.stderr


def test_nodes_are_those_of_a_cluster(headway: Headway, tmp_path: Path) -> None:
    done = headway("search", "model", "--data", "a.txt", "--out", tmp_path / "o", "--node", "arm64")
    assert done.returncode == 2 and "--node names nodes of a cluster: give --ray with it" in done.stderr


@pytest.mark.parametrize("empty", ["kind-b", "kind-c"])
def test_a_kind_of_nodes_without_a_front_does_not_end_the_search_of_the_others(
    headway: Headway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, empty: str
) -> None:
    searched = []

    def run(request: Any, *_: Any) -> Any:
        searched.append(request.node)
        if request.node == empty:
            raise GateError(f"{request.out}: the front is empty")
        return THREE

    def crews(request: Any, *_: Any, nodes: list[str], **__: Any) -> Any:
        return ((replace(request, out=request.out / node, node=node), None) for node in nodes)

    monkeypatch.setattr(search_verb, "check_installed", lambda *_: None)
    monkeypatch.setattr(run_search, "search", run)
    monkeypatch.setattr(where, "crews_for", crews)
    nodes = ["--ray", "auto", "--node", "kind-b", "--node", "kind-c"]
    words = ["search", "model", "--data", "a.txt", "--out", tmp_path / "o", *nodes]
    done = headway(*words)
    assert searched == ["kind-b", "kind-c"]
    assert done.returncode == 1 and f"{empty}: the front is empty" in done.stderr
    assert "front of 3 bundles" in done.stdout and done.stdout.count("front.html") == 1
    done = headway(*words, "--json")
    assert done.returncode == 1 and len(json.loads(done.stdout)) == 1
