"""Define what a reader of one form is, and what all readers share: checked constants, weights with their integers, refusals."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ....errors import SourceError
from ...graph.edit import constant, consumers, dims, initializer, insert, producer, replace, take_over
from ...graph.stored_weights import note_stored, stored_and_float

CONTRIB = "com.microsoft"
FLOAT = ir.DataType.FLOAT


@dataclass
class Reading:
    """A file's graph while it is rewritten. `notes`: what was done, for the user.

    `rounded`: what the file computes at run time beyond its weights, by form; where it is not empty, the rewritten graph is another
    computation than the file's.
    """

    model: ir.Model
    path: Path
    notes: list[str] = field(default_factory=list)
    rounded: list[str] = field(default_factory=list)
    operators: Counter[str] = field(default_factory=Counter)
    """How many operators of these forms the file has."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a user is told of the file: its operators of these forms, and what was done; nothing of a plain file."""
        listed = ", ".join(f"{count} {name}" for name, count in sorted(self.operators.items()))
        return (*([f"ONNX file as another tool writes it: {listed}"] if listed else []), *self.notes)

    @property
    def graph(self) -> ir.Graph:
        return self.model.graph

    def note(self, sentence: str) -> None:
        """Say something once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def rounds(self, what: str) -> None:
        """Note that the file rounds something at run time which is left out here."""
        if what not in self.rounded:
            self.rounded.append(what)

    def refuse(self, node: ir.Node, why: str) -> SourceError:
        """Return the error that names a node and why it is not read."""
        return SourceError(f"{self.path}: node {name_of(node)!r} ({node.op_type}): {why}")

    def array(self, node: ir.Node, index: int, what: str) -> np.ndarray:
        """Return a constant input. SourceError where it is missing or computed."""
        array = constant(given(node, index))
        if array is None:
            raise self.refuse(node, f"its {what} is not a constant of the file")
        return array

    def weight(
        self,
        node: ir.Node,
        name: str,
        q: np.ndarray,
        scale: np.ndarray,
        zero: np.ndarray | None = None,
        *,
        axis: int = 1,
        block: int = 0,
    ) -> ir.Value:
        """Return a float initializer for quantized weights of `node`, whose integers are noted to be put back.

        SourceError where the shapes do not fit each other, or a scale is not finite.
        """
        if not np.isfinite(np.asarray(scale, np.float32)).all():
            raise self.refuse(node, "a scale is not finite: the file is damaged")
        try:
            stored, floats = stored_and_float(q, scale, zero, axis, block)
        except ValueError as error:
            raise self.refuse(node, f"{error}: the file is damaged") from error
        if stored is None:
            self.note(f"{name}: its integers are of more than 8 bits; held as the float32 values that they stand for")
        value = self.floats(name, floats)
        if stored is not None:
            note_stored(self.model, str(value.name), stored)
        return value

    def floats(self, name: str, array: np.ndarray) -> ir.Value:
        """Return an initializer of this content, under the name or one like it that is free."""
        for suffix in ("_quantized", ".quantized", "_q4", "_Q4", "_q8", "_q", "_Bnb4"):
            name = name.removesuffix(suffix)
        known = self.graph.initializers.get(name)
        if known is not None and not (known.dtype == FLOAT and np.array_equal(constant(known), array)):  # type: ignore[arg-type]
            name = f"{name}.float"
        return initializer(self.graph, name, array)


@dataclass(frozen=True)
class Form:
    """One form: the operators that it begins with, and the function that rewrites all such nodes.

    Forms are read in the order of `order`: 0 quantized operators in the place of float ones, 1 quantized weights, 2 integers that are
    moved, 3 floats of other types, 4 fused operators of several layers, 5 fused operators of one.
    """

    order: int
    operators: frozenset[tuple[str, str]]
    read: Callable[[Reading, list[ir.Node]], None]
    always: bool = False
    """Whether it is no matter of operators: every graph is looked through."""


def operators(*names: str, domain: str = CONTRIB) -> frozenset[tuple[str, str]]:
    """Return operators of a domain."""
    return frozenset((domain, name) for name in names)


def domain_of(node: ir.Node) -> str:
    """Return a node's domain, `""` for ONNX's own."""
    return "" if node.domain == "ai.onnx" else node.domain


def name_of(node: ir.Node) -> str:
    """Return what to call a node in a message."""
    return str(node.name or node.outputs[0].name)


def given(node: ir.Node, index: int) -> ir.Value | None:
    """Return an input, None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def op(
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    suffix: str,
    *,
    dtype: Any = FLOAT,
    **attributes: Any,
) -> ir.Value:
    """Insert a plain operator before a node that it is made from; return its result."""
    return insert(before, op_type, inputs, name=f"{before.outputs[0].name}.{suffix}", dtype=dtype, **attributes)


def number(reading: Reading, value: float) -> ir.Value:
    """Return a float32 scalar initializer."""
    return initializer(reading.graph, f"number.{value!r}", np.array(value, np.float32))


def integers(reading: Reading, *values: int) -> ir.Value:
    """Return an int64 vector initializer."""
    return initializer(reading.graph, f"sizes.{'_'.join(map(str, values))}", np.array(values, np.int64))


def finish(node: ir.Node, result: ir.Value, output: int = 0) -> None:
    """Give all readers of a node's output the new result; an output of the graph keeps its name."""
    old = node.outputs[output]
    if old.is_graph_output():
        if result.is_graph_input() or result.is_initializer() or result.is_graph_output():
            result = insert(node, "Identity", [result], name=f"{old.name}.handed_on", dtype=result.dtype)
        take_over(old, result)
    else:
        replace(old, result)


def drop(reading: Reading, node: ir.Node) -> None:
    """Remove a node that was rewritten. SourceError where something reads an output that has no counterpart."""
    left = next((o for o in node.outputs if o.uses() or o.is_graph_output()), None)
    if left is not None:
        raise reading.refuse(node, f"its output {left.name!r} is read, which has no counterpart here")
    reading.graph.remove(node, safe=True)


def only_reader(value: ir.Value) -> ir.Node | None:
    """Return the one node that reads a value; None where there are several, or the graph gives it out."""
    readers = consumers(value)
    return readers[0] if len(readers) == 1 and not value.is_graph_output() else None


def source_of(value: ir.Value | None) -> ir.Value | None:
    """Return what a value was before casts and identities."""
    while (node := producer(value, "Cast", "Identity")) is not None:
        value = node.inputs[0]
    return value


def rank(value: ir.Value | None) -> int | None:
    """Return the number of axes of a value; None where it is not known."""
    shape = dims(value)
    return None if shape is None else len(shape)
