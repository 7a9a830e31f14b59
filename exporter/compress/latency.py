"""Measure the latency table: what heads, neurons and ranks of a model cost on this machine. It is kept for each machine.

Every block is cut to the same level, and the model is lowered and run as it would be in production. Its latency is compared with the
uncut model's in the same rounds. The cost of a level is the difference to having none of the part, divided by the blocks.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import onnx_ir as ir

from ...errors import HeadwayWarning
from ...scratch import scratch
from ..bench.measure import machine
from ..graph.anatomy import Anatomy, read_anatomy
from ..graph.edit import constant, consumers
from ..graph.ranks import break_even
from ..passes.cuts import set_array
from ..passes.heads import RemoveHeads
from ..passes.lowrank import SplitWeights
from ..passes.neurons import RemoveNeurons
from ..targets.base import TargetSpec
from .latency_table import SCHEMA_VERSION, LatencyTable, rising
from .stopwatch import RESOLUTION_MS, Timing, Workload, open_model, time_beside
from .work import cache_folder

_LEVELS = 8
_TABLE_ROWS = 1024
_TOO_NOISY = 0.05
"""A table that is known no better than to this part of the latency serves the run that measured it, and is not kept."""

_OLD_DAYS = 30


def measure_table(
    model: ir.Model,
    workload: Workload,
    spec: TargetSpec,
    *,
    cache: Path | None = None,
    refresh: bool = False,
    on_level: Callable[..., None] = lambda *_, **__: None,
) -> LatencyTable:
    """Return the table of `model`, from the cache where this machine has measured this architecture at this workload before.

    `cache` is a folder, by default the user's own; with `refresh` it is measured again. The model is not changed.
    """
    anatomy = read_anatomy(model)
    folder = cache or cache_folder("latency")
    path = folder / f"{_fingerprint(anatomy, workload, spec)}.json" if folder is not None else None
    if path is not None and not refresh:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # a damaged one is measured again
            table = LatencyTable.from_json(json.loads(path.read_text(encoding="utf-8")))
            _name_old(table)
            return table
    table = _measure(model, anatomy, workload, spec, on_level)
    if table.noise > max(_TOO_NOISY, RESOLUTION_MS / table.full if table.full else 0.0):
        warnings.warn(
            f"the machine is busy: latencies were measured to ±{table.noise:.0%} of the model's (load {table.load}); the table "
            "serves this run and is not kept: run it again on an idle machine for a better plan",
            HeadwayWarning,
            stacklevel=2,
        )
    elif path is not None:
        _keep(table, path)
    return table


def _name_old(table: LatencyTable) -> None:
    """Say with a HeadwayWarning that a table is old: kernels, drivers and neighbors of the machine may have changed."""
    if table.age_days > _OLD_DAYS:
        warnings.warn(
            f"the latency table of {table.measured_at[:10]} is used, {table.age_days} days old: headway profile --refresh measures it "
            "again",
            HeadwayWarning,
            stacklevel=3,
        )


def _keep(table: LatencyTable, path: Path) -> None:
    """Write a table to the cache. What was measured is worth more than the cache: a HeadwayWarning where it cannot be written."""
    beside = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(table.to_json(), indent=2) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        warnings.warn(
            f"{path.parent}: the measured latencies cannot be kept ({error.strerror}), and the next run measures again: "
            "set XDG_CACHE_HOME to a folder that can be written",
            HeadwayWarning,
            stacklevel=2,
        )


def _fingerprint(anatomy: Anatomy, workload: Workload, spec: TargetSpec) -> str:
    """Return a name for what latency depends on: machine, versions, workload and shapes."""
    about = machine()
    about["versions"] = {k: v for k, v in about["versions"].items() if k == "onnxruntime"}
    shapes = [[(p.in_features, p.out_features, p.rank or 0) for p in b.projections] for b in anatomy.blocks]
    heads = [b.attention.heads if b.attention else 0 for b in anatomy.blocks]
    key = json.dumps([SCHEMA_VERSION, about, asdict(workload), asdict(spec), shapes, heads], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:24]


def _measure(
    model: ir.Model, anatomy: Anatomy, workload: Workload, spec: TargetSpec, on_level: Callable[..., None]
) -> LatencyTable:
    blocks = anatomy.blocks
    attentions = {b.index: b.attention.heads for b in blocks if b.attention is not None}
    forwards = {(b.index, i): f.width for b in blocks for i, f in enumerate(b.feed_forwards)}
    most_heads, widest = max(attentions.values(), default=0), max(forwards.values(), default=0)
    step = -(-widest // _LEVELS // spec.neuron_multiple) * spec.neuron_multiple or 1
    head_levels = sorted({round(most_heads * i / _LEVELS) for i in range(_LEVELS)})
    widths = list(range(0, widest, step))
    ranks = _ranks(anatomy, spec)
    total = len(head_levels) + len(widths) + sum(map(len, ranks))
    with scratch() as folder:
        base = _small_tables(model.clone())
        uncut = open_model(base.clone(), Path(folder) / "whole", workload.threads)

        def beside(label: str, *passes: ir.passes.InPlacePass) -> Timing:
            on_level(f"measure latency, {label}", of=total)
            cut = base.clone()
            for structural in passes:
                structural(cut)
            return time_beside(uncut, open_model(cut, Path(folder) / "cut", workload.threads), workload)

        heads = {
            n: beside(f"{n} heads", RemoveHeads({i: range(min(n, h)) for i, h in attentions.items()}))
            for n in head_levels
        }
        neurons = {
            n: beside(f"{n} neurons", RemoveNeurons({k: range(min(n, w)) for k, w in forwards.items()})) for n in widths
        }
        attention_rank = {r: beside(f"attention rank {r}", _split(anatomy, r, attention=True)) for r in ranks[0]}
        neuron_rank = {r: beside(f"feed-forward rank {r}", _split(anatomy, r, attention=False)) for r in ranks[1]}
    timings = [t for part in (heads, neurons, attention_rank, neuron_rank) for t in part.values()]
    full = median(t.first_ms for t in timings) if timings else 0.0
    heads_costs, none_a = _costs(heads, full, len(attentions), whole=most_heads)
    neuron_costs, none_f = _costs(neurons, full, len(forwards), whole=widest)
    return LatencyTable(
        spec.name,
        workload,
        full,
        full * (none_a + none_f - 1),
        heads_costs,
        neuron_costs,
        _costs(attention_rank, full, len(attentions), none=none_a)[0],
        _costs(neuron_rank, full, len(forwards), none=none_f)[0],
        machine(),
        max((t.half_width for t in timings), default=0.0),
        os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _costs(
    timings: Mapping[int, Timing], full: float, parts: int, *, whole: int | None = None, none: float | None = None
) -> tuple[dict[int, float], float]:
    """Return the cost of one part in milliseconds by level, never falling, and the latency without any as a share of `full`.

    `parts` parts have the level at once. `whole`: the level of the uncut model. `none`: that share where it is known.
    """
    if not parts:
        return {}, 1.0 if none is None else none
    shares = {n: t.ratio for n, t in timings.items()}
    half_widths = {n: t.half_width for n, t in timings.items()}
    if whole is not None:
        shares[whole], half_widths[whole] = 1.0, 0.0
    fitted = rising(shares, half_widths)
    if none is None:
        none = fitted[0]
    return {n: max(0.0, full * (share - none) / parts) for n, share in fitted.items()}, none


def part_matrices(anatomy: Anatomy, block: int, *, attention: bool, number: int = 0) -> list[tuple[str, int, int]]:
    """Return names and sizes of the unsplit weights of one attention or feed-forward, each once."""
    part = anatomy.blocks[block].attention
    forwards = anatomy.blocks[block].feed_forwards
    projections = ((part.q, part.k, part.v, part.o) if part else ()) if attention else forwards[number].projections
    unsplit = {p.weight: (p.weight, p.in_features, p.out_features) for p in projections if p.rank is None}
    return list(unsplit.values())


def _ranks(anatomy: Anatomy, spec: TargetSpec) -> tuple[list[int], list[int]]:
    """Return ranks worth measuring for attentions and for feed-forwards: quarters of what breaks even."""
    ranks = []
    for attention in (True, False):
        limits = [
            break_even(rows, columns)
            for b in anatomy.blocks
            for i in range(1 if attention else len(b.feed_forwards))
            for _, rows, columns in part_matrices(anatomy, b.index, attention=attention, number=i)
        ]
        highest = min(limits, default=0)
        step = spec.rank_multiple
        ranks.append(sorted({highest * i // 4 // step * step for i in (1, 2, 3, 4)} - {0}))
    return ranks[0], ranks[1]


def _split(anatomy: Anatomy, rank: int, *, attention: bool) -> SplitWeights:
    names = {
        name: rank
        for b in anatomy.blocks
        for i in range(1 if attention else len(b.feed_forwards))
        for name, rows, columns in part_matrices(anatomy, b.index, attention=attention, number=i)
        if rank <= break_even(rows, columns)
    }
    return SplitWeights(names, random=True)


def _small_tables(model: ir.Model) -> ir.Model:
    """Cut long embeddings: looking a row up costs the same in a short one, and copies are cheap."""
    for value in model.graph.initializers.values():
        array = constant(value) if len(value.shape or ()) == 2 else None
        if array is not None and len(array) > 8 * _TABLE_ROWS and all(n.op_type == "Gather" for n in consumers(value)):
            set_array(value, array[:_TABLE_ROWS])
    return model
