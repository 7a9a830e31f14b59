"""Measure the latency table: what heads, neurons and ranks of a model cost on this machine. It is kept for each machine.

Every block is cut to the same level, and the model is lowered and run as it would be in production. Its latency is compared with the
uncut model's in the same rounds. The cost of a level is the difference to having none of the part, divided by the blocks.
"""

import hashlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ...errors import HeadwayWarning
from ...runners.base import Runner
from ...scratch import scratch
from ..bench.measure import IDLE_SECONDS, machine
from ..graph.anatomy import Anatomy, read_anatomy
from ..graph.edit import constant, consumers
from ..passes.cuts import set_array
from ..passes.heads import RemoveHeads
from ..passes.lowrank import SplitWeights, break_even
from ..passes.neurons import RemoveNeurons
from ..targets.base import Target, TargetSpec
from ..targets.ort.target import OrtTarget

SCHEMA_VERSION = 2
ROUNDS = 12
_ORT = OrtTarget()
_LEVELS = 8
_TABLE_ROWS = 1024


@dataclass(frozen=True)
class Workload:
    """Batches, as (texts, tokens), whose mean latency is what counts, run by `threads` threads."""

    shapes: tuple[tuple[int, int], ...]
    threads: int = 1

    @classmethod
    def of(cls, lengths: np.ndarray, *, threads: int = 1) -> "Workload":
        """Return single texts at the user's own lengths: the middles of the four quarters of `lengths [texts]`, in tokens."""
        middles = np.quantile(lengths, [0.125, 0.375, 0.625, 0.875]).round().astype(int)
        return cls(tuple((1, max(int(n), 1)) for n in middles), threads)

    def feeds(self, names: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """Return one batch of each shape, without padding. Ids are small enough for any vocabulary, trimmed or of amino acids."""
        batches = []
        for batch, length in self.shapes:
            ids = np.arange(batch * length, dtype=np.int64).reshape(batch, length) % 3 + 3
            known = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
            batches.append({n: known.get(n, np.zeros_like(ids)) for n in names})
        return batches

    def __str__(self) -> str:
        shapes = ", ".join(f"{b}×{n}" for b, n in self.shapes)
        return f"{shapes}; {self.threads} thread(s)"


@dataclass
class LatencyTable:
    """Costs in milliseconds. `full` is the whole model's, `rest` that of all but attentions and feed-forwards.

    `heads` and `neurons` give the cost of an attention with so many heads, and of a feed-forward so wide. `attention_rank` and
    `neuron_rank` give the cost of the uncut part with all its weights split at that rank.
    """

    target: str
    workload: Workload
    full: float
    rest: float
    heads: dict[int, float] = field(default_factory=dict)
    neurons: dict[int, float] = field(default_factory=dict)
    attention_rank: dict[int, float] = field(default_factory=dict)
    neuron_rank: dict[int, float] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    def attention(self, heads: float) -> float:
        """Return the cost of an attention with so many heads."""
        return _between(self.heads, heads)

    def feed_forward(self, width: float) -> float:
        """Return the cost of a feed-forward so wide."""
        return _between(self.neurons, width)

    @property
    def digest(self) -> str:
        """sha256 of the content: two searches that quote the same decided by the same figures."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain numbers, which `from_json` reads."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "LatencyTable":
        """Return the table that `to_json` wrote. Raises ValueError, KeyError or TypeError where the content is damaged."""
        values = {k: v for k, v in raw.items() if k != "schema_version"}
        for name in ("heads", "neurons", "attention_rank", "neuron_rank"):
            values[name] = {int(k): float(v) for k, v in values[name].items()}
        shapes = tuple((int(b), int(n)) for b, n in values["workload"]["shapes"])
        values["workload"] = Workload(shapes, int(values["workload"]["threads"]))
        return cls(**values)


def _between(table: Mapping[int, float], level: float) -> float:
    """Interpolate linearly between measured levels. Costs never fall as levels rise, whatever the noise."""
    levels = sorted(table)
    return float(np.interp(level, levels, np.maximum.accumulate([table[n] for n in levels])))


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
    folder = cache or _cache()
    path = folder / f"{_fingerprint(anatomy, workload, spec)}.json" if folder is not None else None
    if path is not None and not refresh:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # a damaged one is measured again
            return LatencyTable.from_json(json.loads(path.read_text(encoding="utf-8")))
    table = _measure(model, anatomy, workload, spec, on_level)
    if path is not None:
        _keep(table, path)
    return table


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


def _cache() -> Path | None:
    """Return the folder of the user's own cache; None for a user without a home folder."""
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(given) if given else Path.home() / ".cache") / "headway" / "latency"
    except RuntimeError:
        return None


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

        def relative(label: str, *passes: ir.passes.InPlacePass) -> float:
            on_level(f"measure latency, {label}", of=total)
            cut = base.clone()
            for structural in passes:
                structural(cut)
            runner = open_model(cut, Path(folder) / "cut", workload.threads)
            first, second = paired_times([uncut, runner], workload)
            fulls.append(first)
            return second / first

        fulls: list[float] = []
        heads = {
            n: relative(f"{n} heads", RemoveHeads({i: range(min(n, h)) for i, h in attentions.items()}))
            for n in head_levels
        }
        neurons = {
            n: relative(f"{n} neurons", RemoveNeurons({k: range(min(n, w)) for k, w in forwards.items()}))
            for n in widths
        }
        attention_rank = {r: relative(f"attention rank {r}", _split(anatomy, r, attention=True)) for r in ranks[0]}
        neuron_rank = {r: relative(f"feed-forward rank {r}", _split(anatomy, r, attention=False)) for r in ranks[1]}
    full = float(np.median(fulls)) if fulls else 0.0

    def per_block(parts: Mapping[int, float], none: float, count: int) -> dict[int, float]:
        """Return costs of one block. No part costs less than its absence: where the measurement says so, it is noise."""
        return {n: max(0.0, full * (share - none) / max(count, 1)) for n, share in parts.items()}

    none_a, none_f = min(heads.get(0, 1.0), 1.0), min(neurons.get(0, 1.0), 1.0)
    return LatencyTable(
        spec.name,
        workload,
        full,
        full * (none_a + none_f - 1),
        per_block(heads | {most_heads: 1.0}, none_a, len(attentions)) if attentions else {},
        per_block(neurons | {widest: 1.0}, none_f, len(forwards)) if forwards else {},
        per_block(attention_rank, none_a, len(attentions)),
        per_block(neuron_rank, none_f, len(forwards)),
        machine(),
    )


def part_matrices(anatomy: Anatomy, block: int, *, attention: bool, number: int = 0) -> list[tuple[str, int, int]]:
    """Return names and sizes of the unsplit weights of one attention or feed-forward, each once."""
    part = anatomy.blocks[block].attention
    forwards = anatomy.blocks[block].feed_forwards
    projections = (
        ((part.q, part.k, part.v, part.o) if part else ())
        if attention
        else (forwards[number].up, forwards[number].down)
    )
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


def open_model(model: ir.Model, folder: Path, threads: int, target: OrtTarget = _ORT) -> Runner:
    """Lower a canonical model (which is used up), write it to `folder` and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    target.lower(model, read_anatomy(model))
    target.build(model, folder)
    return target.open(folder, target.options(regroup=False), threads)


class Stopwatch:
    """A stopwatch that times models on a workload, each beside the source.

    Models for other targets are timed in ONNX Runtime on a CPU all the same, since the source is; the manifest says so.
    """

    def __init__(self, source: ir.Model, workload: Workload, target: Target, folder: Path):
        """Open the source. Models that are timed are built in `folder`."""
        self.workload = workload
        self.source_ms = 0.0
        self._folder = folder
        self._target = target if isinstance(target, OrtTarget) else OrtTarget()
        self._source = open_model(source.clone(), folder / "baseline", workload.threads)

    def time(self, model: ir.Model) -> tuple[float, int]:
        """Return milliseconds on the workload, on the scale of the source's first measurement, and bytes of the artifact."""
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            runner = open_model(model.clone(), folder, self.workload.threads, self._target)
            source, own = paired_times([self._source, runner], self.workload)
            self.source_ms = self.source_ms or source
            return self.source_ms * own / source, sum(p.stat().st_size for p in self._target.files(folder))


def paired_times(runners: Sequence[Runner], workload: Workload, rounds: int = ROUNDS) -> list[float]:
    """Return the median milliseconds of each runner, averaged over the shapes. All shapes run in turn in every round.

    One thread is timed by the processor's clock: on a busy machine, time that others had the core would make a cut model look
    slower or faster than it is. Threads that wait for each other are timed by the wall clock.
    """
    now = time.thread_time_ns if workload.threads == 1 else time.perf_counter_ns
    feeds = workload.feeds(runners[0].input_names)
    times = np.zeros((rounds, len(feeds), len(runners)))
    for batch in feeds:
        for runner in runners:
            runner.run(batch)
    for turn in range(rounds):
        for i, batch in enumerate(feeds):
            for j in range(len(runners)):
                index = (j + turn) % len(runners)
                if workload.threads > 1:
                    time.sleep(IDLE_SECONDS)
                    runners[index].run(batch)  # threads that slept may share a processor for their first milliseconds
                start = now()
                runners[index].run(batch)
                times[turn, i, index] = (now() - start) / 1e6
    return [float(t) for t in np.median(times, axis=0).mean(axis=0)]
