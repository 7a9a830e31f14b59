"""A pass as its author would add it: one module with its spec and its function. Its row is in `test_steps`."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from headway.exporter.compress.job import Changes, Job
from headway.exporter.graph.edit import constant
from headway.exporter.passes.cuts import set_array
from headway.exporter.recipe.pass_specs import PassBase, Role


class RoundBiasesSpec(PassBase):
    """Round the biases to a number of decimals."""

    role: ClassVar[Role] = "store"

    kind: Literal["round_biases"] = Field(default="round_biases", description="Name of the pass.")
    decimals: int = Field(default=2, ge=0, description="Decimals that stay.")


def round_biases(job: Job, spec: RoundBiasesSpec) -> Changes:
    """Round the biases."""
    biases = [v for n, v in job.outcome.model.graph.initializers.items() if n.endswith(".bias")]
    for value in biases:
        array = constant(value)
        assert array is not None
        set_array(value, np.round(array, spec.decimals))
    return {"biases": f"{len(biases)} rounded"}
