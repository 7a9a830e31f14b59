"""Find single changes that can be made to a Python module: compared otherwise, joined otherwise, one number off, a step left out.

A change replaces one expression or statement and leaves the rest of the file as it is. Docstrings, messages, annotations,
decorators, assertions and what only reports progress are left alone.
"""

import ast
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_BOUNDARY = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
_FLIPPED = {
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_SWAPPED = {"all": "any", "min": "max", "minimum": "maximum", "amin": "amax", "argmin": "argmax", "floor": "ceil"}
_SWAPPED |= {b: a for a, b in _SWAPPED.items()}
_SILENT = frozenset(
    {"print", "echo", "debug", "info", "warning", "warn", "log", "step", "advance", "update_bar", "flush"}
)
_SKIPPED = (ast.Raise, ast.JoinedStr, ast.Assert, ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Change:
    """One change of a file: `line` is where it starts, `start` and `end` are its place in bytes."""

    file: str
    line: int
    start: int
    end: int
    before: str
    after: str
    kind: str

    def apply(self, content: bytes) -> bytes:
        """Return the content of the file with the change."""
        return content[: self.start] + self.after.encode() + content[self.end :]


def changes_of(file: str, content: bytes, rng: random.Random) -> list[Change]:
    """Return one change for each place of a module that can be changed; where several are possible `rng` picks one."""
    starts = [0]
    for line in content.split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    changes = []
    for node, options in _places(ast.parse(content)):
        kind, replacement = rng.choice(options)
        start = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        before = content[start:end].decode()
        after = replacement if isinstance(replacement, str) else ast.unparse(replacement)
        if isinstance(replacement, ast.expr):
            after = f"({after})"
        changes.append(Change(file, node.lineno, start, end, before, after, kind))  # type: ignore[attr-defined]
    return changes


Option = tuple[str, ast.AST | str]


def _places(tree: ast.Module) -> Iterator[tuple[ast.AST, list[Option]]]:
    stack: list[tuple[ast.AST, bool]] = [(tree, False)]
    while stack:
        node, nested = stack.pop()
        options = [o for rule in _RULES for o in rule(node, nested)]
        if options:
            yield node, options
        if isinstance(node, ast.If | ast.While) and isinstance(node.test, ast.Call | ast.Name | ast.Attribute):
            yield node.test, [("branches", ast.UnaryOp(ast.Not(), node.test))]
        if not isinstance(node, _SKIPPED) and not _reports(node):
            inside = nested or isinstance(node, ast.If | ast.For | ast.While)
            stack.extend((child, inside) for child in _children(node))


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what stands in a node, without annotations, decorators, docstrings and other bare constants."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params", "bases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not (
                isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            ):
                yield child


def _comparisons(node: ast.AST, nested: bool) -> Iterator[Option]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for kind, table in (("boundary", _BOUNDARY), ("comparison", _FLIPPED)):
            if type(node.ops[0]) in table:
                yield kind, ast.Compare(node.left, [table[type(node.ops[0])]()], node.comparators)


def _logic(node: ast.AST, nested: bool) -> Iterator[Option]:
    if isinstance(node, ast.BoolOp):
        yield "and/or", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not", node.operand
    elif isinstance(node, ast.IfExp):
        yield "branches", ast.IfExp(node.test, node.orelse, node.body)


def _constants(node: ast.AST, nested: bool) -> Iterator[Option]:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield "boolean", ast.Constant(not node.value)
        elif isinstance(node.value, int | float):
            yield from (("constant", ast.Constant(v)) for v in (node.value + 1, node.value - 1))
            if node.value:
                yield "constant", ast.Constant(node.value * 2)


def _calls(node: ast.AST, nested: bool) -> Iterator[Option]:
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in _SWAPPED:
            yield "aggregation", ast.Call(ast.Name(_SWAPPED[node.func.id]), node.args, node.keywords)
        elif isinstance(node.func, ast.Attribute) and node.func.attr in _SWAPPED:
            function = ast.Attribute(node.func.value, _SWAPPED[node.func.attr])
            yield "aggregation", ast.Call(function, node.args, node.keywords)


def _statements(node: ast.AST, nested: bool) -> Iterator[Option]:
    if isinstance(node, ast.Raise):
        yield "raise deleted", "pass"
    elif isinstance(node, ast.Return) and nested:
        yield "return deleted", "pass"
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not _reports(node):
        yield "call deleted", "pass"


def _reports(node: ast.AST) -> bool:
    """Return True for a statement that only prints or shows progress."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _name(node.value) in _SILENT


def _name(call: ast.Call) -> str:
    function = call.func
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


_RULES: tuple[Callable[[ast.AST, bool], Iterator[Option]], ...] = (
    _comparisons,
    _logic,
    _constants,
    _calls,
    _statements,
)
