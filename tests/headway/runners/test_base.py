"""Batches of mixed lengths: groups against brute force, rows put back, masks checked."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.errors import UsageError
from headway.runners.base import Limits, check_mask, group_by_length, prepared, put_rows, real_lengths


def cost(groups: list[np.ndarray], lengths: np.ndarray, fixed: int) -> int:
    return sum(len(g) * int(lengths[g].max()) + fixed for g in groups)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 30))
def test_groups_are_the_cheapest_there_are(lengths: list[int], fixed: int) -> None:
    array = np.array(lengths)
    groups = group_by_length(array, fixed)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    order = np.argsort(array, kind="stable")
    every = [
        [np.array(part) for part in np.split(order, list(cuts))]
        for count in range(len(lengths))
        for cuts in combinations(range(1, len(lengths)), count)
    ]
    assert cost(groups, array, fixed) == min(cost(g, array, fixed) for g in every)


def test_many_rows_are_grouped_fast_enough_to_be_worth_it() -> None:
    lengths = np.random.default_rng(0).integers(1, 512, 20_000)
    groups = group_by_length(lengths)
    assert sum(map(len, groups)) == 20_000


def test_rows_are_put_back_where_they_were() -> None:
    """Outputs per token are padded with zeros to the batch's length; others have no sequence axis."""
    results: dict[str, np.ndarray] = {}
    tokens = np.ones((2, 3, 4), np.float32)
    put_rows(results, "tokens", tokens, np.array([2, 0]), (3, 5), 1)
    put_rows(results, "tokens", 2 * tokens[:1, :1], np.array([1]), (3, 5), 1)
    put_rows(results, "pooled", np.array([[7.0], [8.0]], np.float32), np.array([2, 0]), (3, 5), None)
    assert results["tokens"].shape == (3, 5, 4) and results["pooled"].shape == (3, 1)
    assert results["tokens"][..., 0].tolist() == [[1, 1, 1, 0, 0], [2, 0, 0, 0, 0], [1, 1, 1, 0, 0]]
    assert results["pooled"][:, 0].tolist() == [8, 0, 7]


def test_the_length_of_a_row_ends_with_its_last_token() -> None:
    mask = np.array([[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
    assert real_lengths(mask).tolist() == [2, 4, 1, 4]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.bool_, np.float32])
def test_a_row_of_padding_alone_counts_as_one_token(dtype: type) -> None:
    """A group of length zero could not be run."""
    mask = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype)
    assert real_lengths(mask).tolist() == [1, 3, 1, 2]
    assert [g.tolist() for g in group_by_length(real_lengths(np.zeros((2, 5), dtype)))] == [[0, 1]]


def test_padding_before_a_token_is_refused_and_its_row_named() -> None:
    check_mask(np.array([[1, 1, 0], [0, 0, 0], [1, 1, 1]]))
    with pytest.raises(UsageError, match=r"attention_mask, row 1: padding stands before a token; .*pad on the right"):
        check_mask(np.array([[1, 0, 0], [0, 1, 1]]))


NAMES = ("input_ids", "attention_mask", "token_type_ids")
IDS = np.array([[1, 5, 2], [1, 2, 0]])


def test_inputs_are_cast_and_those_that_may_be_missing_are_filled() -> None:
    made = prepared({"input_ids": IDS.astype(np.int32)}, NAMES, Limits(6))
    assert list(made) == list(NAMES) and all(a.dtype == np.int64 for a in made.values())
    assert made["input_ids"].tolist() == IDS.tolist()
    assert made["attention_mask"].all() and not made["token_type_ids"].any()
    assert made["attention_mask"].shape == made["token_type_ids"].shape == IDS.shape
    narrow = prepared(
        {"input_ids": IDS, "attention_mask": IDS > 0}, NAMES[:2], dtypes={"attention_mask": np.dtype(np.int32)}
    )
    assert (narrow["attention_mask"].dtype, narrow["input_ids"].dtype) == (np.int32, np.int64)
    assert narrow["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert narrow["input_ids"] is IDS  # nothing is copied that fits


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({"input_ids": IDS - 1}, "input_ids holds -1"),
        ({"input_ids": IDS + 1}, "input_ids holds 6, and this model has embeddings for the ids 0 to 5"),
        ({"input_ids": IDS.astype(np.float32)}, "input_ids is float32; give integers"),
        ({"input_ids": IDS, "attention_mask": np.ones(3, np.int64)}, r"attention_mask has the shape \[3\]"),
        ({"attention_mask": IDS}, "the input input_ids is missing; given were attention_mask"),
    ],
)
def test_inputs_that_no_model_takes_are_named(feeds: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        prepared(feeds, NAMES, Limits(6))


def test_an_empty_batch_and_an_unknown_vocabulary_pass() -> None:
    assert prepared({"input_ids": IDS[:0]}, NAMES, Limits(6))["token_type_ids"].shape == (0, 3)
    assert prepared({"input_ids": IDS + 1000}, NAMES)["input_ids"].max() == 1005


def test_other_inputs_are_handed_on_and_never_invented() -> None:
    pixels = np.ones((2, 4), np.float32)
    assert prepared({"pixels": pixels}, ("pixels",))["pixels"] is pixels
    with pytest.raises(UsageError, match="the input position_ids is missing"):
        prepared({"input_ids": IDS}, ("input_ids", "position_ids"))


def test_rows_without_a_token_are_refused_where_they_are_not_answered() -> None:
    mask = np.array([[1, 0], [0, 0]])
    feeds = {"input_ids": np.ones((2, 2), int), "attention_mask": mask}
    names = ["input_ids", "attention_mask"]
    assert prepared(feeds, names, Limits(empty_rows=True))["attention_mask"].tolist() == mask.tolist()
    with pytest.raises(UsageError, match="attention_mask, row 1: there is no token"):
        prepared(feeds, names, Limits(empty_rows=False))
    choices = {name: np.stack([array, array[::-1]], axis=1) for name, array in feeds.items()}
    with pytest.raises(UsageError, match="row 0, 1: there is no token"):
        prepared(choices, names, Limits(empty_rows=False))
    prepared({name: array[:1] for name, array in feeds.items()}, names, Limits(empty_rows=False))
