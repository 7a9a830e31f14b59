"""Find where an artifact first differs from its source."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ...kernels.cpu import DOMAIN
from ...scratch import scratch
from ..capture.capture import canonical_of, capture
from ..graph.anatomy import read_anatomy
from ..source.source import Source
from ..targets.base import Target, Text
from ..targets.ort.target import MODEL_FILE, open_runner, session_options, write
from .parity import Case, Parity, compare, first_divergence


def padding_matters(expected: list[dict[str, np.ndarray]], cases: list[Case], per_token: list[str]) -> bool:
    """Return whether the source's own outputs depend on how far a batch is padded (MobileBERT looks at the next token)."""
    by_name = {c.name: e for c, e in zip(cases, expected, strict=True)}
    further = next(c for c in cases if "padded further" in c.name)
    mixed = next(c for c in cases if c.name.endswith("mixed lengths, padded"))
    longest = mixed.feeds["input_ids"].shape[-1]
    cut = {k: v[:, :longest] if k in per_token else v for k, v in by_name[further.name].items()}
    alone = {k: v[:, :longest] if k in per_token else v for k, v in by_name[mixed.name].items()}
    return not compare([mixed], [alone], lambda _: cut, per_token=per_token).ok


def diagnose(source: Source, target: Target, text: Text, cases: list[Case], parity: Parity) -> str | None:
    """Capture the source again and return the first module whose output differs, in the canonical graph or in the lowered one.

    Only run after a failure, when time and memory no longer matter. Return None where no module differs, or none has a name.
    """
    case = next((c for c in cases if any(o.worst_case == c.name for o in parity.outputs if not o.ok)), cases[0])
    captured = capture(source)
    source = captured.source
    canonical = canonical_of(captured)
    names = list(canonical.sources)
    if not names:
        return None
    wanted = [canonical.sources[n] for n in names] if source.kind == "onnx" else names
    inside = captured.reference.inside(case.feeds, wanted)
    expected = {n: inside[w] for n, w in zip(names, wanted, strict=True) if w in inside}
    tolerance = min(o.tolerance for o in parity.outputs)
    mask = case.feeds["attention_mask"]
    for stage in ("capture", "lowering"):
        if stage == "lowering":
            target.lower(canonical.model, read_anatomy(canonical.model), text)
        module = first_divergence(names, expected, run_inside(canonical.model, case.feeds, names), mask, tolerance)
        if module is not None:
            return f"{module} (in the {stage})"
    return None


def run_inside(model: ir.Model, feeds: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    """Return inner values of a graph by name, as ONNX Runtime computes them; names that the graph lacks are left out."""

    values = ir.convenience.create_value_mapping(model.graph, include_subgraphs=False)
    known = [n for n in names if n in values]
    plugins = any("plugin_namespace" in n.attributes for n in model.graph)
    own = any(n.domain == DOMAIN and n.op_identifier() not in model.functions for n in model.graph)
    if plugins or (not own and any(v.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16) for v in values.values())):
        return _run_typed(model, feeds, {n: values[n] for n in known})
    outputs = list(model.graph.outputs)
    model.graph.outputs.extend(values[n] for n in known if values[n] not in outputs)
    with scratch() as folder:
        write(model, Path(folder))
        options = session_options(regroup=False, kernels="custom" if own else "stock")
        runner = open_runner(Path(folder) / MODEL_FILE, options)
        arrays = runner.session.run(known, {n: feeds[n] for n in runner.input_names})
    del model.graph.outputs[len(outputs) :]
    return dict(zip(known, arrays, strict=True))


def _run_typed(
    model: ir.Model, feeds: Mapping[str, np.ndarray], values: Mapping[str, ir.Value]
) -> dict[str, np.ndarray]:
    """Return inner values of a graph without a runtime's own operators, each in the dtype that the graph gives it."""
    from ..graph.typed_graph import TypedGraph

    graph = TypedGraph(model)
    results = graph.run(graph.feeds(feeds), values.values())
    return {name: results[value].float().numpy() for name, value in values.items()}


def parity_failure(parity: Parity) -> str:
    """Return one sentence: which output differs, by how much, on what, and from which module on."""
    worst = next(o for o in parity.outputs if not o.ok)
    where = f"; the first module that differs is {parity.first_divergence}" if parity.first_divergence else ""
    if worst.is_near:
        return (
            f"output {worst.name!r} has a cosine of {worst.cosine:.6f} to the source's (at least {worst.least_cosine} is needed), and "
            f"differs most on '{worst.worst_case}'{where}. Nothing was written"
        )
    beside = " in float64" if worst.source_rounding is not None else ""
    return (
        f"output {worst.name!r} differs from the source{beside} by {worst.max_abs:.3g} (allowed {worst.allowed:.3g}) "
        f"on '{worst.worst_case}'{where}. Nothing was written"
    )
