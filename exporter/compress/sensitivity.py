"""Measure what quantizing each group of weights costs, and choose which stay float. Imports torch."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import onnx_ir as ir
import torch

from ...calibration.batches import Batch, make_batches
from ...calibration.corpus import fingerprint, read_lines
from ...calibration.objective import distance_over, noise_floor, unit
from ...calibration.observe import Observations
from ...scratch import scratch
from ...tasks import Scoring
from ..capture.capture import capture_canonical
from ..graph.anatomy import read_anatomy
from ..graph.torch_graph import TorchGraph
from ..publish.staging import output_folder
from ..publish.writing import written
from ..recipe.pass_specs import QuantizeSpec
from ..source.scoring import scoring_of
from ..source.tokenizer import source_encoder
from .rounding_plan import Group, RoundingPlan, look, needs_histograms, plan, quantized


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
    """Measure what quantizing each group of a source's weights to int8 costs by itself; write JSON and a plot to `out`.

    Return what was written, and the files.
    """
    from ..publish.plots import plot_sensitivity  # matplotlib is loaded only to draw

    output_folder(out)  # before anything is measured
    on_step("capture the graph")
    source, model = capture_canonical(spec, task=task, allow_pickle=allow_pickle)
    texts = read_lines(data, column)
    with scratch() as folder:
        encoder = source_encoder(source, Path(folder))
    batches = make_batches(encoder, texts, longest=encoder.info.max_length, samples=samples)
    quantize = QuantizeSpec()
    chosen = plan(model, read_anatomy(model), quantize)
    histograms = needs_histograms(quantize, activations)
    marks = source.fingerprint, fingerprint(texts)
    observations = look(model, chosen.groups, batches, source=marks[0], text=marks[1], seed=0, histograms=histograms)
    total = len(chosen.groups)
    scoring = scoring_of(source)
    errors, floor = effects(
        model,
        chosen,
        observations,
        quantize,
        batches,
        activations=activations,
        signed=False,
        scoring=scoring,
        on_group=lambda name: on_step(f"quantize alone, {name}", of=total),
    )
    content = {
        "model": spec,
        "activations": activations,
        "observations": observations.describe(),
        "unit": unit([str(v.name) for v in model.graph.outputs], scoring),
        "noise_floor": floor,
        "groups": [e.to_json(floor) for e in errors],
    }
    with written(out):
        (out / "sensitivity.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        plot_sensitivity(content["groups"], content["unit"], floor, out / "sensitivity.png")  # type: ignore[arg-type]
    return content, [out / "sensitivity.json", out / "sensitivity.png"]


Result = TypeVar("Result")


@dataclass(frozen=True)
class Effect:
    """A group quantized alone. `error` is the distance from the float model per text, in `objective.unit`."""

    group: Group
    error: float

    def to_json(self, floor: float) -> dict[str, Any]:
        """Return what is written about a group; `floor` is the error that rounding alone makes."""
        return {
            "name": self.group.name,
            "error": self.error,
            "above_noise": self.error > floor,
            "matrices": list(self.group.matrices),
            "multiply_adds": self.group.cost,
        }


def effects(
    model: ir.Model,
    chosen: RoundingPlan,
    observations: Observations,
    spec: QuantizeSpec,
    batches: Sequence[Batch],
    *,
    activations: str,
    signed: bool,
    scoring: Scoring | None = None,
    on_group: Callable[[str], None] = lambda _: None,
) -> tuple[list[Effect], float]:
    """Quantize one group at a time, embeddings left float, and compare the outputs on the calibration data.

    Return the effects, and the error per text that rounding alone makes: smaller effects cannot be told apart.
    """
    graph = TorchGraph(model)
    with torch.no_grad():
        wanted = [graph(b.feeds) for b in batches]
    texts = sum(len(b.rows) for b in batches)
    errors = []
    for group in chosen.groups:
        on_group(group.name)
        quantized_model, _ = quantized(
            model,
            replace(chosen, groups=[group], tables=(), recurrent=()),
            observations,
            spec,
            activations=activations,
            signed=signed,
        )
        errors.append(Effect(group, distance_over(TorchGraph(quantized_model), batches, wanted, scoring) / texts))
    return errors, noise_floor(batches, wanted, scoring) / texts


def leave(chosen: RoundingPlan, gone: Sequence[Group]) -> RoundingPlan:
    """Return the plan with some of its groups left in float."""
    left = chosen.left | dict.fromkeys(
        (n for g in gone for n in g.matrices), "quantizing it costs more than may be lost"
    )
    return replace(chosen, groups=[g for g in chosen.groups if g not in gone], left=left)


def mixed(
    chosen: RoundingPlan,
    errors: Sequence[Effect],
    judge: Callable[[RoundingPlan], tuple[float, Result]],
    most: float,
    floor: float = 0.0,
) -> tuple[RoundingPlan, Result] | None:
    """Return the plan that quantizes most within `most` points, and its result; None where even the last group costs more.

    `judge` carries a plan out, and returns how many points it loses and the result. Groups return to float in the order of error for
    each multiply-add saved, the dearest first; errors below the noise `floor` count as that. How many is found by bisection, since
    less is lost as more stay float.
    """
    order = [e.group for e in sorted(errors, key=lambda e: max(e.error, floor) / e.group.cost, reverse=True)]

    drop, result = judge(chosen)
    if drop <= most:
        return chosen, result
    del result
    low, high, best = 0, len(order), None
    while low + 1 < high:
        middle = (low + high) // 2
        tried = leave(chosen, order[:middle])
        drop, result = judge(tried)
        if drop <= most:
            high, best = middle, (tried, result)
        else:
            low = middle
    return best
