"""What rounding each group of matrices costs by itself, and which groups stay float so that no more is lost than allowed.

Imports torch.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import onnx_ir as ir
import torch

from ...calibration.batches import Batch, make_batches
from ...calibration.corpus import fingerprint, read_lines
from ...calibration.objective import distance_over
from ...calibration.observe import Observations
from ..capture.capture import capture_canonical
from ..graph.anatomy import read_anatomy
from ..graph.torch_graph import TorchGraph
from ..publish.staging import output_folder
from ..recipe.pass_specs import QuantizeSpec
from ..source.tokenizer import source_encoder
from .rounding_plan import Group, RoundingPlan, quantized


def sensitivity_of(
    spec: str,
    *,
    task: str | None,
    data: Path,
    column: str | None,
    activations: str,
    samples: int,
    out: Path,
    allow_pickle: bool = False,
    on_step: Callable[..., None] = lambda *_, **__: None,
) -> tuple[dict[str, Any], list[Path]]:
    """What rounding each group of a source's matrices to int8 costs by itself; writes JSON and a plot to `out`."""
    from ..publish.plots import plot_sensitivity
    from ..recipe.pass_specs import QuantizeSpec
    from .rounding_plan import look, needs_histograms, plan
    from .sensitivity import effects

    on_step("capture the graph")
    source, model = capture_canonical(spec, task=task, allow_pickle=allow_pickle)
    texts = read_lines(data, column)
    with tempfile.TemporaryDirectory() as folder:
        encoder = source_encoder(source, Path(folder))
    batches = make_batches(encoder, texts, longest=encoder.info.max_length, samples=samples)
    recipe = QuantizeSpec()
    chosen = plan(model, read_anatomy(model), recipe)
    histograms = needs_histograms(recipe, activations)
    marks = source.fingerprint, fingerprint(texts)
    seen = look(model, chosen.groups, batches, source=marks[0], text=marks[1], seed=0, histograms=histograms)
    total = len(chosen.groups)
    found = effects(
        model,
        chosen,
        seen,
        recipe,
        batches,
        activations=activations,
        signed=False,
        on_group=lambda name: on_step(f"round {name}", of=total),
    )
    content = {
        "model": spec,
        "activations": activations,
        "observations": seen.describe(),
        "groups": [
            {"name": e.group.name, "error": e.error, "matrices": list(e.group.matrices), "multiply_adds": e.group.cost}
            for e in found
        ],
    }
    (output_folder(out) / "sensitivity.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    plot_sensitivity(content["groups"], out / "sensitivity.png")  # type: ignore[arg-type]
    return content, [out / "sensitivity.json", out / "sensitivity.png"]


Made = TypeVar("Made")


@dataclass(frozen=True)
class Effect:
    """A group rounded alone: `error` is its distance from the float model by text (see `objective.distance`)."""

    group: Group
    error: float


def effects(
    model: ir.Model,
    chosen: RoundingPlan,
    seen: Observations,
    spec: QuantizeSpec,
    batches: Sequence[Batch],
    *,
    activations: str,
    signed: bool,
    on_group: Callable[[str], None] = lambda _: None,
) -> list[Effect]:
    """Rounds one group at a time, tables left float, and compares the outputs on the calibration text."""
    graph = TorchGraph(model)
    with torch.no_grad():
        wanted = [graph(b.feeds) for b in batches]
    texts = sum(len(b.rows) for b in batches)
    found = []
    for group in chosen.groups:
        on_group(group.name)
        made, _ = quantized(
            model, replace(chosen, groups=[group], tables=()), seen, spec, activations=activations, signed=signed
        )
        found.append(Effect(group, distance_over(TorchGraph(made), batches, wanted) / texts))
    return found


def mixed(
    chosen: RoundingPlan, found: Sequence[Effect], judge: Callable[[RoundingPlan], tuple[float, Made]], most: float
) -> tuple[RoundingPlan, Made] | None:
    """The plan that rounds the most work within `most` points, and what was made of it; None where even the last group costs more.

    `judge` makes what a plan says and tells how many points it loses.
    Groups go back to float in the order of error for each multiply-add saved, the dearest first; how many is found by
    bisection, since what is lost falls as more stay float.
    """
    order = [e.group for e in sorted(found, key=lambda e: e.error / e.group.cost, reverse=True)]

    def with_float(count: int) -> RoundingPlan:
        gone = order[:count]
        reason = "rounding it costs more than may be lost"
        left = chosen.left | {n: reason for g in gone for n in g.matrices}
        return replace(chosen, groups=[g for g in chosen.groups if g not in gone], left=left)

    drop, made = judge(chosen)
    if drop <= most:
        return chosen, made
    del made
    low, high, best = 0, len(order), None
    while low + 1 < high:
        middle = (low + high) // 2
        tried = with_float(middle)
        drop, made = judge(tried)
        if drop <= most:
            high, best = middle, (tried, made)
        else:
            low = middle
    return best
