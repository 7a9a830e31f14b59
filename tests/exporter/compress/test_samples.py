"""How text is divided into what is learned from and what judges."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.calibration.corpus import TextFile
from headway.errors import UsageError
from headway.exporter.compress.samples import FEWEST_TEXTS, divide_files
from headway.exporter.recipe.recipe import Calibration


def named(name: str, texts: Iterable[str], labels: list[int] | None = None) -> TextFile:
    return TextFile(name, list(texts), None if labels is None else np.array(labels))


@given(st.integers(FEWEST_TEXTS, 3000), st.integers(1, 600), st.integers(0, 9), st.booleans())
def test_no_text_is_in_two_parts(count: int, samples: int, seed: int, choosing: bool) -> None:
    texts = [str(i) for i in range(count)]
    settings = Calibration(samples=samples, seed=seed)
    parts = divide_files([named("a.txt", texts)], settings, choosing=choosing)
    held_out = [text for part in (*parts.choose, *parts.judge) for text in part.texts]
    assert sorted([*held_out, *parts.texts]) == sorted(texts)
    held = min(256, count // 5)
    assert [len(p.texts) for p in parts.judge] == [held] and [len(p.texts) for p in parts.choose] == [held] * choosing
    assert len(parts.learned_from) == min(samples, len(parts.texts)) and {*parts.learned_from} <= {*parts.texts}
    assert divide_files([named("a.txt", texts)], settings, choosing=choosing) == parts


_FILE = st.lists(st.integers(0, 60), min_size=FEWEST_TEXTS, max_size=50, unique=True)


@given(st.lists(_FILE, min_size=2, max_size=3), st.integers(1, 60), st.integers(0, 5), st.booleans())
def test_a_text_of_several_files_has_the_same_part_in_all(
    numbers: list[list[int]], samples: int, seed: int, choosing: bool
) -> None:
    files = [named(f"{name}.txt", map(str, texts), texts) for name, texts in enumerate(numbers)]
    try:
        parts = divide_files(files, Calibration(samples=samples, seed=seed), choosing=choosing)
    except UsageError as error:
        assert "stand in the files before it" in str(error)
        return
    judged, chosen = ({t for part in given for t in part.texts} for given in (parts.judge, parts.choose))
    learned = {*parts.texts}
    assert not judged & chosen and not judged & learned and not chosen & learned
    assert judged | chosen | learned == {t for file in files for t in file.texts}
    assert [p.name for p in parts.judge] == [f.name for f in files]
    for file, part in zip(files, parts.judge, strict=True):
        assert {*part.texts} <= {*file.texts} and part.labels is not None
        assert part.texts == [str(label) for label in part.labels]
    assert len(set(parts.learned_from)) == len(parts.learned_from) == min(samples, len(learned))
    assert parts.labels is not None and parts.learned_from == [str(label) for label in parts.labels]


def test_every_file_has_its_turn_in_what_is_learned_from() -> None:
    files = [named("short.txt", (f"a{i}" for i in range(20))), named("long.txt", (f"b{i}" for i in range(500)))]
    learned = divide_files(files, Calibration(samples=100)).learned_from
    assert [text[0] for text in learned] == ["a", "b"] * 16 + ["b"] * 68


def test_one_file_is_divided_as_if_it_were_alone() -> None:
    files = [named("a.txt", (f"a{i}" for i in range(40))), named("b.txt", (f"b{i}" for i in range(60)))]
    for number, file in enumerate(files):
        (alone,) = divide_files([file], Calibration()).judge
        assert divide_files(files, Calibration()).judge[number].texts == alone.texts


def test_the_same_texts_judge_whether_or_not_a_pass_chooses() -> None:
    files = [named("a.txt", map(str, range(300))), named("b.txt", map(str, range(200, 500)))]
    plain, choosing = (divide_files(files, Calibration(), choosing=c) for c in (False, True))
    assert plain.judge == choosing.judge


def test_a_file_without_texts_of_its_own_is_refused() -> None:
    learned = divide_files([named("a.txt", map(str, range(50)))], Calibration()).texts
    with pytest.raises(
        UsageError, match=r"b\.txt: its texts stand in the files before it, and none is left to judge by"
    ):
        divide_files([named("a.txt", map(str, range(50))), named("b.txt", learned[:20])], Calibration())


def test_so_few_texts_that_none_could_be_held_out_are_refused() -> None:
    few, enough = (named("few.txt", map(str, range(n))) for n in (FEWEST_TEXTS - 1, FEWEST_TEXTS))
    with pytest.raises(UsageError, match=f"--data holds {FEWEST_TEXTS - 1} texts; at least {FEWEST_TEXTS}"):
        divide_files([few], Calibration(samples=1))
    with pytest.raises(UsageError, match=rf"few\.txt holds {FEWEST_TEXTS - 1} texts"):
        divide_files([enough, few], Calibration(samples=1))
    assert len(divide_files([enough], Calibration(samples=1)).judge[0].texts) == 2


def ranked(name: str, sizes: Iterable[int], first: int = 0) -> TextFile:
    pairs = [(f"query {first + q}", f"text {first + q}.{i}") for q, size in enumerate(sizes) for i in range(size)]
    queries = [int(query.split()[1]) - first for query, _ in pairs]
    return TextFile(name, pairs, np.arange(len(pairs), dtype=np.float32)[:, None], np.array(queries))


@given(st.lists(st.integers(1, 30), min_size=FEWEST_TEXTS, max_size=60), st.integers(0, 5), st.booleans())
def test_a_query_is_divided_with_all_its_texts(sizes: list[int], seed: int, choosing: bool) -> None:
    file = ranked("a.jsonl", sizes)
    try:
        parts = divide_files([file], Calibration(samples=10_000, seed=seed), choosing=choosing)
    except UsageError as error:
        assert "a few queries have so many of the texts" in str(error) and max(sizes) > sum(sizes) / 10
        return
    judged, chosen = ([pair for part in some for pair in part.texts] for some in (parts.judge, parts.choose))
    whole = [*judged, *chosen, *parts.texts]
    assert sorted(whole) == sorted(file.texts) and sorted(parts.learned_from) == sorted(parts.texts)
    queries = [{query for query, _ in some} for some in (judged, chosen, parts.texts)]
    assert not queries[0] & queries[1] and not queries[0] & queries[2] and not queries[1] & queries[2]
    wanted = min(256, len(file.texts) // 5)
    assert wanted <= len(judged) < wanted + max(sizes)
    (part,) = parts.judge
    assert part.labels is not None and part.queries is not None
    assert [file.texts[int(i)] for i in part.labels[:, 0]] == part.texts
    assert [f"query {q}" for q in part.queries] == [query for query, _ in part.texts]


def test_a_query_of_several_files_has_the_same_part_in_all() -> None:
    sizes = [4] * 30
    files = [ranked("a.jsonl", sizes), ranked("b.jsonl", sizes, first=15)]
    parts = divide_files(files, Calibration())
    judged = {query for part in parts.judge for query, _ in part.texts}
    assert judged and not judged & {query for query, _ in parts.texts}


def test_too_few_queries_are_told() -> None:
    with pytest.raises(UsageError, match="--data holds 3 first texts of pairs; at least 10 are needed"):
        divide_files([ranked("a.jsonl", [40] * 3)], Calibration())


def test_pairs_that_begin_alike_have_the_same_part_whatever_the_table() -> None:
    several = ranked("a.jsonl", [2] * 30)
    alone = TextFile("b.csv", [(f"query {q}", f"other {q}") for q in range(30)])
    parts = divide_files([several, alone], Calibration())
    judged = {first for part in parts.judge for first, _ in part.texts}
    assert judged and not judged & {first for first, _ in parts.texts}


def test_a_query_with_nearly_all_texts_leaves_nothing_to_learn_from() -> None:
    for seed in range(10):
        try:
            parts = divide_files([ranked("a.jsonl", [1] * 9 + [1000])], Calibration(seed=seed), choosing=True)
        except UsageError as error:
            assert "give more queries" in str(error)
        else:
            assert parts.learned_from
