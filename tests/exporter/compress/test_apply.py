"""Structural passes are applied all or none, and a removal that changes more than it says is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from headway.errors import GateError
from headway.exporter.compress.apply import apply_passes, checked
from headway.exporter.compress.job import Job
from headway.exporter.graph.anatomy import Anatomy, read_anatomy
from headway.exporter.graph.edit import constant
from headway.exporter.passes.cuts import set_array
from headway.exporter.passes.heads import RemoveHeads
from headway.exporter.passes.neurons import RemoveNeurons
from headway.exporter.passes.sharing import ShareWeights

from tests.support.compressing import batches
from tests.support.variants import canonical


class Careless(RemoveHeads):
    """Removes heads, and harms what it should leave alone."""

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        changes = super().edit(model, anatomy)
        last = [name for name in model.graph.initializers if name.endswith("output.dense.bias")][-1]
        value = model.graph.initializers[last]
        array = constant(value)
        assert array is not None
        set_array(value, array + np.linspace(0, 1, len(array), dtype=np.float32))  # a constant would vanish in the norm
        return changes


def test_what_was_removed_is_all_that_changed(bert: Path) -> None:
    model = canonical(bert)
    cut = checked(model, [RemoveHeads({0: [1]}), RemoveNeurons({(1, 0): range(16)}), ShareWeights()], batches(8))
    assert [b.attention.heads for b in read_anatomy(cut).blocks if b.attention] == [1, 4, 4, 4]
    assert [b.attention.heads for b in read_anatomy(model).blocks if b.attention] == [4] * 4
    with pytest.raises(GateError, match=r"removal changed output 'last_hidden_state' by .* nothing was written"):
        checked(model, [Careless({0: [1]})], batches(8))


def test_passes_are_applied_all_or_none(begin: Callable[..., Job]) -> None:
    job = begin([])
    before = job.outcome.model
    with pytest.raises(GateError, match="removal changed output"):
        apply_passes(job, [RemoveNeurons({(0, 0): range(16)}), Careless({1: [0]})])
    assert job.outcome.model is before and not job.outcome.reports
    changes = apply_passes(job, [RemoveNeurons({(0, 0): range(16)}), RemoveHeads({1: [0]})])
    assert changes == {"block 0": "neurons 256 → 16", "block 1": "heads 4 → 1"}
    assert [r.name for r in job.outcome.reports] == ["RemoveNeurons", "RemoveHeads"]
