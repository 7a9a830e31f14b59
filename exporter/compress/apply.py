"""Apply structural passes, and check each: what it took away is all that changed. Imports torch."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import onnx_ir as ir
import torch

from ...calibration.batches import Batch
from ...errors import GateError
from ..check.parity import TOLERANCE
from ..graph.anatomy import read_anatomy
from ..graph.torch_graph import TorchGraph
from ..passes.base import StructuralPass
from ..passes.heads import RemoveHeads, columns_of
from ..passes.neurons import RemoveNeurons
from .evidence import sites
from .job import Changes, Job


def apply_passes(job: Job, passes: Sequence[StructuralPass]) -> Changes:
    """Apply passes to the job's model, all or none; return the changes."""
    job.outcome.model = checked(job.outcome.model, passes, job.batches)
    reports = [structural.report for structural in passes if structural.report is not None]
    job.outcome.reports += reports
    return {where: change for report in reports for where, change in report.changes.items()}


def checked(model: ir.Model, passes: Sequence[StructuralPass], batches: Sequence[Batch]) -> ir.Model:
    """Return a copy of the model with the passes applied, each checked on one of the batches.

    Raises GateError where a removal changed more than the removed units account for.
    """
    result = model.clone()
    for structural in passes:
        gates = _gates(result, structural)
        before = result.clone() if gates is not None else result
        structural(result)
        if gates is not None:
            _check_removal(before, result, gates, batches[len(batches) // 2])
    return result


def _gates(model: ir.Model, structural: StructuralPass) -> dict[str, np.ndarray] | None:
    """Return which inputs of which sites a removal of units keeps: `[features]` of ones and zeros by name of the value.

    None for a pass that does more than close such gates.
    """
    if not isinstance(structural, RemoveHeads | RemoveNeurons):
        return None
    gates: dict[str, np.ndarray] = {}
    for site in sites(read_anatomy(model)):
        if isinstance(structural, RemoveHeads) and site.is_attention and site.block in structural.keep:
            columns = columns_of(sorted(structural.keep[site.block]), site.unit)
        elif (
            isinstance(structural, RemoveNeurons)
            and site.number is not None
            and (site.block, site.number) in structural.keep
        ):
            columns = np.asarray(structural.keep[site.block, site.number], np.int64)
        else:
            continue
        stays = np.isin(np.arange(site.units * site.unit), columns)
        gates[str(site.projection.input.name)] = stays.astype(np.float32)
    return gates


def _check_removal(uncut: ir.Model, cut: ir.Model, gates: Mapping[str, np.ndarray], batch: Batch) -> None:
    """Raise GateError where the cut model does not answer as the whole one with those gates closed.

    Anything else is a mistake of Headway's, and is never published.
    """
    mask = torch.from_numpy(batch.mask)
    values = ir.convenience.create_value_mapping(uncut.graph, include_subgraphs=False)
    hooks = {values[name]: partial(torch.mul, torch.from_numpy(stays)) for name, stays in gates.items()}
    with torch.no_grad():
        expected = TorchGraph(uncut)(batch.feeds, hooks)
        given = TorchGraph(cut)(batch.feeds)
    for name, value in expected.items():
        difference = (value - given[name]).abs()
        off = float(difference[mask].max() if value.shape[: mask.ndim] == mask.shape else difference.max())
        if not off <= TOLERANCE["float32"] * max(1.0, float(value.abs().max())):
            raise GateError(
                f"removal changed output {name!r} by {off:.3g} more than closing the same gates does; nothing was written"
            )
