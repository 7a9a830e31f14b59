"""Measure latency on the nodes of a Ray cluster that carry a label, one measurement at a time on each. Imports torch and ray.

What is timed lies in a folder that all nodes see. The node that times a model times the source beside it, in the same rounds: ratios of
different nodes of a kind can be compared, their milliseconds cannot.
"""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ...bulk.on_ray import result_of
from ...processor import about
from ..compress.job import Step
from ..compress.latency import measure_table
from ..compress.latency_table import LatencyTable
from ..compress.stopwatch import Pair, Stopwatch, Timing, Workload
from ..targets.base import Target, TargetSpec
from .clock import NothingMeasures, alone
from .ray_nodes import PREFIX, labels_of, own_label

_LOOK_SECONDS = 10.0
_PATIENCE = 30
"""So many looks at a cluster without a node of the label, and it counts as gone: an autoscaler may bring another."""


@dataclass(frozen=True)
class Elsewhere:
    """Where latency is measured: on nodes that carry `label`, with artifacts in `folder`, which all nodes see by this path."""

    label: str
    folder: Path

    def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function on such a node alone, and return what it returns; elsewhere where its node is lost.

        NothingMeasures where no such node is left.
        """
        import ray

        task = ray.remote(num_cpus=0, resources={f"{PREFIX}{self.label}": 1}, max_retries=-1)(work).remote(*arguments)
        missing = 0
        try:
            while not ray.wait([task], timeout=_LOOK_SECONDS)[0]:
                missing = 0 if self.label in labels_of(ray.nodes()) else missing + 1
                if missing >= _PATIENCE:
                    raise NothingMeasures(
                        f"no node of the cluster carries the label {PREFIX}{self.label} any more: start one, and run the search again"
                    )
        except BaseException:
            ray.cancel(task, force=True)
            raise
        return result_of(task)

    def clock(self, source: ir.Model, workload: Workload, target: Target, folder: Path) -> Stopwatch:
        """Return a stopwatch that measures there; `folder` is not used, since other nodes do not see it."""
        return _RayStopwatch(source, workload, target, self.folder / secrets.token_hex(6), self)

    def table(self, model: ir.Model, workload: Workload, spec: TargetSpec, _step: Step) -> LatencyTable:
        """Return the latency table of a model on such a node."""
        import ray

        content = ray.put(ir.to_proto(model).SerializeToString())
        processor, table = self.run(_table, content, workload, spec)
        self.check(processor)
        return LatencyTable.from_json(table)

    def check(self, processor: str) -> None:
        """Raise NothingMeasures where another processor measured before: latencies of two kinds make no front.

        The first one that measures is noted in the folder, for the processes of all nodes.
        """
        file = self.folder / f"{self.label}.processor"
        self.folder.mkdir(parents=True, exist_ok=True)
        own = self.folder / f".{secrets.token_hex(6)}"
        own.write_text(processor, encoding="utf-8")
        with suppress(FileExistsError):
            os.link(own, file)  # appears whole
        own.unlink()
        first = file.read_text(encoding="utf-8")
        if first != processor:
            raise NothingMeasures(
                f"nodes with the label {PREFIX}{self.label} have different processors, {first} and {processor}: give each kind a label "
                "of its own"
            )


class _RayStopwatch(Stopwatch):
    """A stopwatch that builds here, and measures on another node."""

    def __init__(self, source: ir.Model, workload: Workload, target: Target, folder: Path, where: Elsewhere):
        folder.mkdir(parents=True)
        super().__init__(source, workload, target, folder)
        self._where = where

    def measure(self, pair: Pair, workloads: list[Workload], rounds: int, most: int | None = None) -> list[Timing]:
        """Return the latency of a pair on each workload, on a node of the label."""
        processor, timings = self._where.run(_time, pair, workloads, rounds, most)
        self._where.check(processor)
        return list(timings)

    def about(self) -> dict[str, Any]:
        """Return what a latency depends on beside model and workload: the kind of node, and the versions that are the same on all."""
        return super().about()["versions"] | {"node": self._where.label}


def _time(pair: Pair, workloads: list[Workload], rounds: int, most: int | None) -> tuple[str, list[Timing]]:
    with alone():
        return _processor(), pair.time(workloads, rounds, most)


def _table(content: bytes, workload: Workload, spec: TargetSpec) -> tuple[str, dict[str, Any]]:
    import onnx

    with alone():
        return _processor(), measure_table(ir.from_proto(onnx.load_from_string(content)), workload, spec).to_json()


def _processor() -> str:
    """Return what tells kinds of processors apart: the name, and what it computes with."""
    return f"{about()[0] or 'a processor without a name'} ({own_label()})"
