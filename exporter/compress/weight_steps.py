"""Make the passes that change weights but not the structure: repair, recover, quantize."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...calibration.batches import make_batches
from ...calibration.objective import unit
from ...calibration.observe import Observations
from ...errors import GateError, UsageError
from ..graph.anatomy import read_anatomy
from ..graph.torch_graph import TorchGraph
from ..passes.base import StructuralPass
from ..recipe.pass_specs import QuantizeSpec, RecoverSpec, RepairSpec
from ..targets.registry import kernels_of
from .corpus_steps import observe_corpus
from .job import Changes, Job
from .memory import recovered, repaired
from .recover import Recovery, recover
from .rounding_plan import RoundingPlan, activations_for, look, needs_histograms, plan, quantized, values_of
from .sensitivity import effects, leave, mixed

FEW_BATCHES = 8
"""So many batches of calibration data tell how sensitive a group of weights is."""


def repair_weights(job: Job, spec: RepairSpec) -> Changes:
    """Refit the remaining weights by least squares."""
    gains = repaired(job, job.outcome.model, spec.method)
    mean = float(np.exp(np.mean(np.log(list(gains.values()))))) if gains else 1.0
    return {"sites": f"{len(gains)}, squared error ÷ {mean:.2f}"}


def recover_quality(job: Job, spec: RecoverSpec) -> Changes:
    """Distill from the source. Progress stays beside the output where the training is interrupted."""
    given = job.given

    def tell(done: float, loss: float) -> None:
        given.step(f"recover, loss {loss:.4f}", of=100, at=100 * done)

    def train(model: ir.Model) -> Recovery:
        return recover(
            TorchGraph(job.source_model),
            read_anatomy(job.source_model),
            model,
            make_batches(job.encoder, given.texts, longest=job.encoder.info.max_length, seed=given.seed),
            spec.minutes,
            scoring=given.scoring,
            epochs=spec.epochs,
            state=given.out.parent / f".{given.out.name}.recover.safetensors",
            seed=given.seed,
            on_step=tell,
        )

    before, untrained = _choice(job), job.outcome.model.clone()
    try:
        recovery = recovered(job, job.outcome.model, (spec.minutes, spec.epochs), train)
    except KeyboardInterrupt:
        given.step("interrupted: run the same command again to go on", of=0)
        raise
    job.outcome.recovery = recovery
    changes = {"texts": f"{recovery.texts} in {recovery.seconds / 60:.1f} minutes"}
    after = _choice(job)
    if before is not None and after is not None and after >= before:
        job.outcome.model = untrained
        changes["undone"] = f"{after:.2f} points lost on the texts to choose by, {before:.2f} without it"
    return changes


def _choice(job: Job) -> float | None:
    """Return the points that the model loses on the texts to choose by; None where the recipe has set none aside."""
    return job.choice_drop(job.outcome.model) if job.given.choice is not None else None


def quantize_weights(job: Job, spec: QuantizeSpec) -> Changes:
    """Quantize weights, embeddings and activations; with `search`, as many groups of weights as `max_drop` allows."""
    target = job.given.target.spec
    chosen = plan(
        job.outcome.model,
        job.anatomy,
        spec,
        int8_tables=target.int8_embeddings,
        int8_recurrent=target.int8_recurrent,
    )
    if not chosen.groups and not (chosen.in_rows() and not job.anatomy.blocks):
        name, reason = next(iter(chosen.left.items()), ("", ""))
        raise UsageError(
            "quantize: no weights of the blocks are left to quantize" + (f" ({name}: {reason})" if name else "")
        )
    if not chosen.groups:
        if job.given.recipe.calibration.shards:
            raise UsageError(
                "quantize: only embeddings and LSTMs are left to quantize, for which no shards are read: leave calibration.shards out"
            )
        return _quantize_rows(job, chosen)
    if spec.search and spec.left is not None:
        chosen = leave(chosen, [g for g in chosen.groups if set(g.matrices) & set(spec.left)])
    per_token = target.quantizes_tokens or kernels_of(job.given.recipe) != "stock"
    quantizer = observe_for(job, spec, chosen, activations_for(spec, kernels=per_token))
    if spec.search and spec.left is None:
        planned = set(chosen.left)
        chosen, (job.outcome.model, passes) = _search(job, quantizer, chosen)
        job.outcome.decided["left"] = [name for name in chosen.left if name not in planned]
    else:
        job.outcome.model, passes = quantizer.quantize(chosen)
    job.outcome.left_float = chosen.left
    job.outcome.reports += [structural.report for structural in passes if structural.report is not None]
    count = sum(len(g.matrices) for g in chosen.groups)
    changes = {
        "matrices": f"{count} {spec.weights}",
        **_of_rows(chosen),
        "values": quantizer.activations,
    }
    return changes | ({"left in float": str(len(chosen.left))} if chosen.left else {})


def _quantize_rows(job: Job, chosen: RoundingPlan) -> Changes:
    """Quantize embeddings and LSTMs of a model without blocks: nothing has to be observed for them."""
    model, passes = job.outcome.model.clone(), chosen.in_rows()
    for structural in passes:
        structural(model)
    job.outcome.model, job.outcome.left_float = model, chosen.left
    job.outcome.reports += [structural.report for structural in passes if structural.report is not None]
    return _of_rows(chosen) | ({"left in float": str(len(chosen.left))} if chosen.left else {})


def _of_rows(chosen: RoundingPlan) -> Changes:
    """Return how many embeddings and weights of LSTMs become int8 rows."""
    tables: Changes = {"tables": f"{len(chosen.tables)} int8"}
    return tables | ({"LSTMs": f"{len(chosen.recurrent)} weights int8"} if chosen.recurrent else {})


@dataclass(frozen=True)
class Quantizer:
    """What every plan of one pass is carried out with. `signed`: activations are int8 around zero point 0."""

    model: ir.Model
    spec: QuantizeSpec
    observations: Observations
    activations: str
    signed: bool

    def quantize(self, chosen: RoundingPlan) -> tuple[ir.Model, list[StructuralPass]]:
        """Return a copy of the model with a plan carried out, and the passes that did it."""
        return quantized(
            self.model, chosen, self.observations, self.spec, activations=self.activations, signed=self.signed
        )


def observe_for(job: Job, spec: QuantizeSpec, chosen: RoundingPlan, activations: str) -> Quantizer:
    """Observe the activations that the plan's weights read."""
    given = job.given
    histograms = needs_histograms(spec, activations)
    if given.recipe.calibration.shards:
        observations = observe_corpus(job, values_of(chosen.groups), histograms=histograms)
    else:
        observations = look(
            job.outcome.model,
            chosen.groups,
            job.batches,
            source=given.source_fingerprint,
            text=given.text_fingerprint,
            seed=given.seed,
            histograms=histograms,
            on_batch=lambda: given.step("observe activations", of=len(job.batches)),
        )
    job.learned.observations = observations.describe()
    return Quantizer(job.outcome.model, spec, observations, activations, given.target.spec.signed_activations)


def _search(
    job: Job, quantizer: Quantizer, chosen: RoundingPlan
) -> tuple[RoundingPlan, tuple[ir.Model, list[StructuralPass]]]:
    """Return the plan that quantizes most within `max_drop` on the texts to choose by, and its model.

    GateError where not even one group fits.
    """
    given = job.given
    most = given.recipe.max_drop
    errors, floor = effects(
        quantizer.model,
        chosen,
        quantizer.observations,
        quantizer.spec,
        job.batches[:: max(1, len(job.batches) // FEW_BATCHES)],
        activations=quantizer.activations,
        signed=quantizer.signed,
        scoring=given.scoring,
        on_group=lambda name: given.step("sensitivity", of=len(chosen.groups)),
    )
    job.learned.sensitivity = {e.group.name: e.error for e in errors}
    job.learned.noise = unit([str(v.name) for v in quantizer.model.graph.outputs], given.scoring), floor

    def judge(tried: RoundingPlan) -> tuple[float, tuple[ir.Model, list[StructuralPass]]]:
        given.step("search what stays float", of=0)
        result = quantizer.quantize(tried)
        return job.choice_drop(result[0]), result

    best = mixed(chosen, errors, judge, most, floor)
    if best is None:
        raise GateError(
            f"even one quantized group of weights costs more than {most:g} points of {given.quality.metric}: "
            "raise `max_drop` (--max-drop), or leave this model in float"
        )
    return best
