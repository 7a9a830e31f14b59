"""The models and the text that packages for phones are made from and judged on; see `benchmarks.mobile`.

Vocabulary and calibration see training text alone: the training sentences of the movie classifier; for similarity of news the
unrated documents and 20,000 plain sentences, ten to a text. Judged is by the movie sentences of dev and test, and by people's similarities.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headway.exporter.recipe.recipe import Recipe, read_recipe

from .data import movies, news, sentences
from .finetune import movie_classifier
from .int8 import accuracy, correlation
from .models import minilm

RECIPES = Path(__file__).parent / "recipes"
PLAIN, TOGETHER = 20_000, 10


@dataclass(frozen=True)
class Task:
    """A source, its training text, and the figure a bundle is judged by, in points."""

    name: str
    metric: str
    source: Callable[[], Path]
    text: Callable[[Path], Path]
    judge: Callable[[Path], float]

    def recipe(self, name: str, folder: Path) -> Recipe:
        """Return a recipe of `benchmarks/recipes` with this task's source and text."""
        found = read_recipe(RECIPES / f"{name}.yaml")
        return found.model_copy(update={"source": str(self.source()), "data": self.text(folder)})


def _movie_text(folder: Path) -> Path:
    train = movies()["train"]
    names = ("negative", "positive")
    rows = ({"text": t, "label": names[int(n)]} for t, n in zip(train.texts, train.labels, strict=True))
    return _written(folder / "movies.jsonl", rows)


def _news_text(folder: Path) -> Path:
    plain = sentences()
    chosen = np.random.default_rng(0).choice(len(plain), PLAIN, replace=False)
    joined = (" ".join(plain[i] for i in chosen[n : n + TOGETHER]) for n in range(0, PLAIN, TOGETHER))
    return _written(folder / "news.jsonl", ({"text": t} for t in (*news().background, *joined)))


def _written(path: Path, rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")  # type: ignore[attr-defined]
    return path


TASKS = (
    Task("movies", "accuracy, %", movie_classifier, _movie_text, accuracy),
    Task("news", "Pearson × 100", minilm, _news_text, correlation),
)
