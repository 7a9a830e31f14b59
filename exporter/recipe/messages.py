"""Say in plain words what is wrong with the keys of a recipe: pydantic's own words are about Python."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...checked import shown

_EXPECTED: Mapping[str, str] = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "path": "the path of a file",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping of keys",
    "mapping": "a mapping of keys",
    "model": "a mapping of keys",
    "finite": "a finite number",
    "none": "nothing",
}
"""What is expected, by the first word of pydantic's type of error."""

_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}

_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda _: "is missing: give it",
    "extra_forbidden": lambda _: "there is no such key: take it out, or correct its name",
    "too_short": lambda error: (
        f"has {error['ctx']['actual_length']} values; give at least {error['ctx']['min_length']}"
    ),
    "too_long": lambda error: f"has too many values; give at most {error['ctx']['max_length']}",
    "value_error": lambda error: str(error["ctx"]["error"]),
    "literal_error": lambda error: f"{shown(error['input'])} is not known; give {error['ctx']['expected']}",
    "union_tag_invalid": lambda error: (
        f"there is no kind {error['ctx']['tag']!r}; give one of {error['ctx']['expected_tags']}"
    ),
    "union_tag_not_found": lambda _: "names no kind: give `kind:`",
    "string_pattern_mismatch": lambda error: f"{shown(error['input'])} is not of the form {error['ctx']['pattern']}",
}


def in_words(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return what is wrong, from the errors of a pydantic ValidationError: the key, and what to give.

    What the members of a union say about one key is one sentence.
    """
    by_place: dict[str, list[str]] = {}
    for error in errors:
        place = ".".join(str(part) for part in error["loc"] if _is_key(part)) or "recipe"
        by_place.setdefault(place, []).append(_sentence(error))
    return "; ".join(f"{place}: {', or '.join(dict.fromkeys(words))}" for place, words in by_place.items())


def _is_key(part: object) -> bool:
    """Return whether a part of a place is a key or a number, and no member of a union such as `list[int]`."""
    return isinstance(part, int) or (re.fullmatch(r"[\w.-]+", str(part)) is not None and part not in _MEMBERS)


_MEMBERS = frozenset({"int", "float", "str", "bool", "path", "function-after", "constrained-int"})


def _sentence(error: Mapping[str, Any]) -> str:
    kind = str(error["type"])
    if kind in _WORDS:
        return _WORDS[kind](error)
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return f"is {shown(error['input'])}; give {words} {error['ctx'][name]:g}"
    expected = _EXPECTED.get(kind.split("_")[0])
    if expected is not None:
        return f"{expected} is expected, not {shown(error['input'])}"
    return str(error["msg"])
