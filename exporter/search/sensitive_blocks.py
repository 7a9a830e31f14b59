"""Find out which blocks lose most where they alone are quantized: those stay float first. Imports torch."""

from ..compress.job import Job
from ..compress.rounding_plan import activations_for, plan
from ..compress.sensitivity import effects
from ..compress.weight_steps import FEW_BATCHES, observe_for
from ..compress.work import digest_of_model, key_of
from ..graph.anatomy import read_anatomy
from ..recipe.pass_specs import QuantizeSpec


def sensitive_blocks(job: Job, spec: QuantizeSpec) -> list[list[str]]:
    """Return the modules of each block whose weights `spec` quantizes, those blocks first that add the most error.

    `job` is one before any pass. The order is kept, so that it is found out once.
    """
    target = job.given.target.spec
    activations = activations_for(spec, kernels=target.quantizes_tokens or spec.activations in ("auto", "per-token"))
    model = job.source_model
    anatomy = read_anatomy(model)
    chosen = plan(model, anatomy, spec, int8_tables=False)

    def make() -> list[list[str]]:
        quantizer = observe_for(job, spec, chosen, activations)
        errors, _ = effects(
            quantizer.model,
            chosen,
            quantizer.observations,
            spec,
            job.batches[:: max(1, len(job.batches) // FEW_BATCHES)],
            activations=activations,
            signed=quantizer.signed,
            scoring=job.given.scoring,
        )
        total: dict[int, float] = {}
        for effect in errors:
            total[effect.group.block] = total.get(effect.group.block, 0.0) + effect.error
        order = sorted(total, key=lambda block: (-total[block], block))
        return [
            [name.removesuffix(".weight") for group in chosen.groups if group.block == block for name in group.matrices]
            for block in order
        ]

    asked = spec.model_dump(mode="json"), activations, target.name
    found: list[list[str]] = job.given.work.values(
        "order", key_of(job.basis, digest_of_model(model), "blocks", *asked), make
    )
    return found
