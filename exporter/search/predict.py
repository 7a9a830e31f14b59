"""Predict the latency of a model from a latency table: what a trial is told before anything is built. Imports torch."""

import onnx_ir as ir

from ..compress.budget import as_deployed
from ..compress.job import Job
from ..compress.latency_table import LatencyTable
from ..graph.anatomy import Block, FeedForward, read_anatomy
from ..graph.parts import AttentionPart
from ..recipe.pass_specs import FitSpec


def predicted_ms(table: LatencyTable, model: ir.Model) -> float:
    """Return the milliseconds that a float model takes by the table of the model that it was cut from."""
    return table.rest + sum(_block(table, block) for block in read_anatomy(model).blocks)


def _block(table: LatencyTable, block: Block) -> float:
    attention = _attention(table, block.attention) if block.attention is not None else 0.0
    return attention + sum(_feed_forward(table, forward) for forward in block.feed_forwards)


def _attention(table: LatencyTable, part: AttentionPart) -> float:
    rank = part.o.rank
    return (
        table.attention(part.heads)
        if rank is None
        else _nearest(table.attention_rank, rank, table.attention(part.heads))
    )


def _feed_forward(table: LatencyTable, part: FeedForward) -> float:
    rank = part.down.rank
    whole = table.feed_forward(part.width)
    return whole if rank is None else _nearest(table.neuron_rank, rank, whole)


def _nearest(costs: dict[int, float], rank: int, whole: float) -> float:
    """Return the cost at the measured rank nearest to a part's; that of the unsplit part where none was measured."""
    return costs[min(costs, key=lambda measured: abs(measured - rank))] if costs else whole


def scheme_factor(job: Job) -> float:
    """Return the latency of the whole model as the passes behind a job's cut will store it, as a part of the float model's.

    It is measured once for each way to store: a table is of float models.
    """
    spec = next(one for one in job.given.recipe.passes if isinstance(one, FitSpec))
    deployed = as_deployed(job, job.outcome.model, spec)
    return job.timed(deployed)[0].ratio if deployed is not job.outcome.model else 1.0


def with_float_blocks(factor: float, left: int, blocks: int) -> float:
    """Return a factor of `scheme_factor` where so many of the blocks stay float: their time is the float model's."""
    return factor + (1.0 - factor) * min(left, blocks) / max(blocks, 1)
