"""Try passes on the canonical graph of a family, each against what the same graph gives with the removed units closed."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx_ir as ir

from headway.errors import HeadwayError
from headway.exporter.compress.evidence import sites
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.passes.blocks import RemoveBlocks
from headway.exporter.passes.heads import RemoveHeads, columns_of
from headway.exporter.passes.lowrank import SplitWeights, break_even
from headway.exporter.passes.neurons import RemoveNeurons
from headway.exporter.targets.ort.target import MODEL_FILE, lower, open_runner, session_options, write

from tests.support.pass_checks import SHAPE, answers, feeds, gate, largest_difference
from tests.support.variants import rounded

NOT_READ, NONE = "ordinary operators", "none"
"""Cells where a part is not read, and where a family has no such part."""

_FLOAT, _INT8 = 2e-5, 1e-1


def _by_ort(model: ir.Model, kernels: str = "stock") -> dict[str, np.ndarray]:
    """Return outputs at real tokens, by what the target `ort` writes."""
    lowered = model.clone()
    lower(lowered, read_anatomy(lowered), kernels)  # type: ignore[arg-type]
    with TemporaryDirectory() as folder:
        write(lowered, Path(folder))
        runner = open_runner(Path(folder) / MODEL_FILE, session_options(regroup=False, kernels=kernels), 1)  # type: ignore[arg-type]
        results = runner.run(feeds())
    mask = feeds()["attention_mask"].astype(bool)
    return {k: v[mask] if v.shape[:2] == SHAPE else v for k, v in results.items()}


def _agree(wanted: dict[str, np.ndarray], model: ir.Model, tolerance: float = _FLOAT, kernels: str = "stock") -> str:
    """Return `yes` where the graph's torch form and ONNX Runtime give what is wanted, else how far they are."""
    largest = max(1.0, *(float(np.abs(v).max()) for v in wanted.values()))
    apart = largest_difference(wanted, _by_ort(model, kernels)) / largest
    if kernels == "stock" and tolerance == _FLOAT:
        apart = max(apart, largest_difference(wanted, answers(model)) / largest)
    return "yes" if apart <= tolerance else f"differs by {apart:.1e}"


def _inspect(model: ir.Model) -> str:
    anatomy = read_anatomy(model)
    if anatomy.not_read:
        return NOT_READ
    return "yes" if any(b.attention for b in anatomy.blocks) else "no attention"


def _heads(model: ir.Model) -> str:
    """Keep every second group of heads of each attention."""
    anatomy, kept = read_anatomy(model), {}
    for block in anatomy.blocks:
        if block.attention is not None:
            group = block.attention.heads // block.attention.kv_heads
            kept[block.index] = [h for h in range(block.attention.heads) if h // group % 2 == 0]
    if not kept:
        return NOT_READ if anatomy.not_read else NONE
    parts = {i: anatomy.blocks[i].attention for i in kept}
    hooks = {
        a.o.input: gate(columns_of(kept[i], a.o.in_features // a.heads)) for i, a in parts.items() if a is not None
    }
    wanted = answers(model, hooks)
    changed = model.clone()
    RemoveHeads(kept)(changed)
    return _agree(wanted, changed)


def _neurons(model: ir.Model) -> str:
    """Keep seven neurons of each feed-forward."""
    anatomy = read_anatomy(model)
    kept = {(b.index, i): list(range(3, 10)) for b in anatomy.blocks for i in range(len(b.feed_forwards))}
    if not kept:
        return NOT_READ if anatomy.not_read else NONE
    hooks = {s.projection.input: gate(np.arange(3, 10)) for s in sites(anatomy) if not s.is_attention}
    wanted = answers(model, hooks)
    changed = model.clone()
    RemoveNeurons(kept)(changed)
    return _agree(wanted, changed)


def _blocks(model: ir.Model) -> str:
    """Remove the second block: the reference hands its input on as its output."""
    anatomy = read_anatomy(model)
    if len(anatomy.blocks) < 2:
        return NONE
    block = anatomy.blocks[1]
    if block.not_read or block.input is None or block.output is None:
        return NOT_READ if anatomy.not_read else "no single value around a block"
    passed: list = []
    wanted = answers(model, {block.input: lambda x: passed.append(x) or x, block.output: lambda x: passed[-1]})
    changed = model.clone()
    RemoveBlocks([1])(changed)
    return _agree(wanted, changed)


def _split(model: ir.Model) -> str:
    """Split all weights of the blocks at a full rank, which leaves the answers as they are but for rounding."""
    projections = [p for b in read_anatomy(model).blocks for p in b.projections if p.rank is None]
    ranks = {p.weight: min(p.in_features, p.out_features) for p in projections}
    fitting = {p.weight for p in projections if ranks[p.weight] <= break_even(p.in_features, p.out_features)}
    low = {name: rank if name in fitting else break_even_of(projections, name) for name, rank in ranks.items()}
    if not low:
        return NONE
    changed = model.clone()
    SplitWeights(low)(changed)
    return _agree(answers(changed), changed)


def break_even_of(projections: list, name: str) -> int:
    """Return the largest rank at which splitting a weight is allowed."""
    return next(break_even(p.in_features, p.out_features) for p in projections if p.weight == name)


def _int8(model: ir.Model) -> str:
    """Round all weights of blocks and activations per token: ONNX Runtime against the rounded graph in torch."""
    if not any(b.projections for b in read_anatomy(model).blocks):
        return NONE
    changed, _ = rounded(model)
    return _agree(answers(changed), changed, _INT8, "auto")


def _kernels(model: ir.Model) -> str:
    return _agree(answers(model), model, kernels="custom")


CELLS: dict[str, Callable[[ir.Model], str]] = {
    "inspect": _inspect,
    "heads": _heads,
    "neurons": _neurons,
    "blocks": _blocks,
    "split": _split,
    "int8 per token": _int8,
    "kernels custom": _kernels,
}
"""What is tried on each family, and how."""


def tried(model: ir.Model, cell: str) -> str:
    """Return `yes`, or in few words why not."""
    try:
        return CELLS[cell](model.clone())
    except HeadwayError as error:
        return f"refused: {error}"
