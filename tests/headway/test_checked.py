"""JSON is checked against type hints: what fits comes back, what does not is named by its place."""

import gc
import math
import weakref
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from headway.checked import Between, Mismatch, checked


class Inner(TypedDict):
    size: Annotated[int, Between(1, 9)]
    note: NotRequired[str | None]


@dataclass
class Outer:
    name: str
    kind: Literal["a", "b"]
    inner: Inner
    shape: list[int | str]
    share: float = 1.0
    free: dict[str, Any] = field(default_factory=dict)


GOOD = {"name": "x", "kind": "a", "inner": {"size": 3}, "shape": [1, "batch"]}


def test_what_fits_comes_back_as_its_class() -> None:
    outer = checked(Outer, GOOD | {"share": 2, "free": {"a": [None]}, "later": 1})
    assert outer == Outer("x", "a", {"size": 3}, [1, "batch"], 2, {"a": [None]})
    assert checked(Inner, {"size": 1, "note": None, "more": []}) == {"size": 1, "note": None, "more": []}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": 3}, "name: text is expected, not 3"),
        ({"name": "a\0b"}, "name: text is expected"),
        ({"kind": "c"}, "kind: one of 'a', 'b' is expected, not 'c'"),
        ({"inner": []}, "inner: an object is expected"),
        ({"inner": {}}, "inner.size: missing"),
        ({"inner": {"size": 10}}, "inner.size: a number from 1 to 9 is expected, not 10"),
        ({"inner": {"size": True}}, "inner.size: an integer is expected, not True"),
        ({"inner": {"size": 2.0}}, "inner.size: an integer"),
        ({"inner": {"size": 2, "note": 4}}, "inner.note: text"),
        ({"shape": [1, None]}, r"shape\[1\]: an integer is expected, not None"),
        ({"shape": {}}, "shape: a list"),
        ({"share": math.nan}, "share: a finite number is expected, not nan"),
        ({"share": 10**400}, "share: a finite number"),
        ({"share": False}, "share: a finite number"),
        ({"free": 1}, "free: an object"),
    ],
)
def test_what_does_not_fit_is_named_by_its_place(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(Mismatch, match=reason):
        checked(Outer, GOOD | fields)


def test_a_value_of_the_second_kind_of_a_union_leaves_nothing_alive() -> None:
    """An error that is kept would keep the frames of whoever opened the file, with the model in them."""

    class Held:
        pass

    held = Held()
    watched = weakref.ref(held)

    def read(_: Held) -> object:
        return checked(list[int | str], ["batch"])

    gc.disable()
    try:
        assert read(held) == ["batch"]
        del held
        assert watched() is None
    finally:
        gc.enable()
