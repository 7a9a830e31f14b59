"""Single changes of a module: each parses, changes one place, and leaves alone what says nothing about behavior."""

import ast
import random
from pathlib import Path

from benchmarks.mutation import changes_of

SOURCE = b'''"""A docstring with 7 and True."""
LIMIT: int = 5


def first(values: list[int], most: int = 3) -> int | None:
    """Return 1 of them."""
    if not values:
        raise ValueError(f"{1 + 2} values, not 8")
    if len(values) > most and all(values):
        return max(values)
    values.sort()
    print("sorted", 9)
    return values[0] if values is not None else None
'''


def seen(source: bytes = SOURCE) -> set[tuple[str, str]]:
    """Return all changes that any seed gives, as text before and after."""
    return {(c.before, c.after) for seed in range(40) for c in changes_of("m.py", source, random.Random(seed))}


def test_every_kind_of_change_is_made() -> None:
    assert seen() >= {
        ("5", "(6)"), ("5", "(4)"), ("5", "(10)"), ("3", "(4)"), ("0", "(1)"), ("0", "(-1)"),
        ("not values", "(values)"),
        ('raise ValueError(f"{1 + 2} values, not 8")', "pass"),
        ("len(values) > most", "(len(values) >= most)"), ("len(values) > most", "(len(values) <= most)"),
        ("len(values) > most and all(values)", "(len(values) > most or all(values))"),
        ("all(values)", "(any(values))"), ("max(values)", "(min(values))"),
        ("return max(values)", "pass"), ("values.sort()", "pass"),
        ("values is not None", "(values is None)"),
        ("values[0] if values is not None else None", "(None if values is not None else values[0])"),
    }  # fmt: skip
    assert ("flag", "(not flag)") in seen(b"if flag:\n    run(True)\n")
    assert ("True", "(False)") in seen(b"if flag:\n    run(True)\n")


def test_words_types_messages_and_progress_are_left_alone() -> None:
    before = {b for b, _ in seen()}
    assert not before & {"7", "1", "8", "9", "1 + 2", 'print("sorted", 9)', "list[int]"}
    assert not any(b == "values[0]" or b.startswith("return values") for b in before)


def test_a_change_replaces_its_place_and_nothing_else() -> None:
    """Also behind characters of several bytes."""
    source = "text = 'größer — 3'\nif größe < 4 and größe > 2:\n    stop()\n".encode()
    for seed in range(10):
        for change in changes_of("m.py", source, random.Random(seed)):
            changed = change.apply(source)
            assert changed != source and change.before in source.decode().splitlines()[change.line - 1]
            assert changed.startswith(source[: change.start]) and changed.endswith(source[change.end :])
            ast.parse(changed)


def test_all_changes_of_this_project_parse() -> None:
    root = Path(__file__).parents[2]
    path = root / "exporter" / "check" / "parity.py"
    changes = changes_of("parity.py", path.read_bytes(), random.Random(0))
    assert len(changes) > 30
    for change in changes:
        ast.parse(change.apply(path.read_bytes()))
