"""Read the forms in which other tools write compressed and fused graphs: each is rewritten to plain operators, by its own module.

Modules of `forms` are found by being there: each defines a `FORM`.
"""

import importlib
import pkgutil
import warnings
from functools import cache
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import common

from ...errors import HeadwayWarning
from ..graph.edit import remove_unused
from . import forms
from .forms.base import Form, Reading, domain_of
from .onnx_refusals import refuse_unreadable


@cache
def known_forms() -> tuple[Form, ...]:
    """Return all forms, in the order in which they are read."""
    names = sorted(m.name for m in pkgutil.iter_modules(forms.__path__))
    modules = [importlib.import_module(f"{forms.__name__}.{name}") for name in names]
    return tuple(sorted((m.FORM for m in modules if hasattr(m, "FORM")), key=lambda form: form.order))


def read_forms(model: ir.Model, path: Path) -> Reading:
    """Rewrite every known form, in place. SourceError naming the node of a form that is not read, or that is damaged."""
    reading = Reading(model, path)
    if model.functions and any(_is_of_a_form(n) for function in model.functions.values() for n in function):
        common.InlinePass()(model)
    for form in known_forms():
        found = [n for n in model.graph if (domain_of(n), n.op_type) in form.operators]
        reading.operators.update(node.op_type for node in found)
        if found or form.always:
            form.read(reading, found)
            remove_unused(model)
            model.graph.sort()
    refuse_unreadable(model, path)
    return reading


def say(reading: Reading) -> None:
    """Warn of what the file is, and of what was done."""
    for sentence in reading.sentences:
        warnings.warn(f"{reading.path}: {sentence}", HeadwayWarning, stacklevel=3)


def _is_of_a_form(node: ir.Node) -> bool:
    return any((domain_of(node), node.op_type) in form.operators for form in known_forms())
