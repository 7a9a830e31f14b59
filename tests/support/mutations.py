"""All single changes of a JSON document: values of a wrong type, huge, nested, missing, not a number, odd text, and keys added."""

import copy
import json
from collections.abc import Iterator
from typing import Any

NESTED: Any = []
for _ in range(200):
    NESTED = [NESTED]

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**9, 10**30, -(10**400), 1e308, float("nan"), float("inf"), 0.5, "", "x", "../../etc/passwd", "\ud800",
    "a\0b", "é\u202e" * 3, "9" * 5000, [], ["x"], {}, {"x": 1}, NESTED,
)  # fmt: skip


def places(document: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value below a document, as the keys that lead to it."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield (*before, key)
        yield from places(value, (*before, key))


def mutations(document: Any) -> Iterator[tuple[str, str]]:
    """Yield what was changed, and the changed document as JSON."""
    for place in places(document):
        for value in VALUES:
            yield f"{place} = {str(value)[:40]!r}", _changed(document, place, value)
        yield f"{place} missing", _changed(document, place, _MISSING)
    for place in [(), *(p for p in places(document) if isinstance(_at(document, p), dict))]:
        for key in ("extra", "model", "__class__", "\ud800"):
            yield f"{(*place, key)} added", _changed(document, (*place, key), "extra")


_MISSING = object()


def _at(document: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        document = document[key]
    return document


def _changed(document: Any, place: tuple[Any, ...], value: Any) -> str:
    changed = copy.deepcopy(document)
    inner = _at(changed, place[:-1])
    if value is _MISSING:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return json.dumps(changed)
