"""Check JSON against the type hints of dataclasses and TypedDicts. Needs nothing but Python: a plan bundle carries this module.

Why our own: pydantic is no part of what production installs. Here it takes some ninety lines, since JSON has seven types.
"""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

Check = Callable[[Any, str], Any]
"""Take a value and the name of its place, and return it as its type; raise Mismatch."""

MOST_TEXT = 1000
MOST_NUMBER = 1 << 53
"""JSON's numbers are exact up to here in all readers."""


class Mismatch(ValueError):
    """A value is not what its place asks for; the message names the place."""


@dataclass(frozen=True)
class Between:
    """Bounds of a number, as `Annotated[int, Between(0, 9)]`."""

    low: float
    high: float


def checked(kind: Any, value: Any, place: str = "") -> Any:
    """Return `value` as the dataclass, TypedDict or plain type `kind`. Raise Mismatch, which names the field.

    Keys that a class does not have are left out: a later Headway may add some.
    """
    return _check_of(kind)(value, place)


@cache
def _check_of(kind: Any) -> Check:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value, _: value
    if origin is Annotated:
        return _bounded(_check_of(arguments[0]), arguments[1])
    if origin in (Union, UnionType):
        return _either(arguments)
    if origin is Literal:
        return _one_of(arguments)
    if origin is list:
        return _list_of(_check_of(arguments[0]))
    if origin is dict:
        return _object_of(_check_of(arguments[1]))
    if is_dataclass(kind) or is_typeddict(kind):
        return _record(kind)
    return _PLAIN[kind]


def shown(value: Any) -> str:
    """Return a value as a message shows it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _refuse(place: str, expected: str, value: Any) -> Mismatch:
    return Mismatch(f"{_short(place)}: {expected} is expected, not {shown(value)}")


def _short(place: str) -> str:
    return place if len(place) <= 200 else f"{place[:100]}…{place[-99:]}"


def _plain(expected: str, fits: Callable[[Any], bool]) -> Check:
    def check(value: Any, place: str) -> Any:
        if not fits(value):
            raise _refuse(place, expected, value)
        return value

    return check


_PLAIN: dict[Any, Check] = {
    str: _plain("text", lambda v: type(v) is str and len(v) <= MOST_TEXT and "\0" not in v),
    bool: _plain("true or false", lambda v: type(v) is bool),
    int: _plain("an integer", lambda v: type(v) is int and abs(v) <= MOST_NUMBER),
    float: _plain("a finite number", lambda v: type(v) in (int, float) and abs(v) <= 1e300),
    NoneType: _plain("null", lambda v: v is None),
}


def _bounded(check: Check, bounds: Between) -> Check:
    def inside(value: Any, place: str) -> Any:
        value = check(value, place)
        if not bounds.low <= value <= bounds.high:
            raise _refuse(place, f"a number from {bounds.low} to {bounds.high}", value)
        return value

    return inside


def _either(kinds: tuple[Any, ...]) -> Check:
    checks = [_check_of(kind) for kind in kinds]

    def check(value: Any, place: str) -> Any:
        if value is None and NoneType in kinds:
            return None
        reasons = []  # as text: an error that is kept keeps its frames, and with them whatever is being opened
        for one in checks:
            try:
                return one(value, place)
            except Mismatch as error:
                reasons.append(str(error))
        raise Mismatch(reasons[0])

    return check


def _one_of(values: tuple[Any, ...]) -> Check:
    return _plain(
        f"one of {', '.join(map(repr, values))}", lambda v: any(type(v) is type(x) and v == x for x in values)
    )


def _list_of(check: Check) -> Check:
    def each(value: Any, place: str) -> Any:
        if type(value) is not list:
            raise _refuse(place, "a list", value)
        return [check(item, f"{place}[{i}]") for i, item in enumerate(value)]

    return each


def _object_of(check: Check) -> Check:
    def each(value: Any, place: str) -> Any:
        if type(value) is not dict:
            raise _refuse(place, "an object", value)
        return {key: check(item, f"{place}.{key}") for key, item in value.items()}

    return each


def _record(kind: Any) -> Check:
    hints = get_type_hints(kind, include_extras=True)
    makes = is_dataclass(kind)
    if makes:
        needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    else:
        needed = set(kind.__required_keys__)
        hints = {
            name: get_args(hint)[0] if name not in needed and _optional(hint) else hint for name, hint in hints.items()
        }
    checks = {name: _check_of(hint) for name, hint in hints.items()}

    def check(value: Any, place: str) -> Any:
        if not isinstance(value, dict):
            raise _refuse(place or kind.__name__, "an object", value)
        before = f"{place}." if place else ""
        if missing := sorted(needed - value.keys()):
            raise Mismatch(f"{_short(before)}{missing[0]}: missing")
        fitting = {name: one(value[name], before + name) for name, one in checks.items() if name in value}
        return kind(**fitting) if makes else value | fitting

    return check


def _optional(hint: Any) -> bool:
    return str(get_origin(hint)).endswith(("NotRequired", "Required"))
