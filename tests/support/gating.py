"""Blocks of a simulated machine in place of processes, so that whole gates run in milliseconds."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from headway.exporter.validate.processes import Block, RunnerCrash

from .simulated import Machine


def blocks(
    slowdown: float = 1.0, *, law: str = "constant", seed: int = 0, taken: float = 0.0, crash_after: int | None = None
) -> Callable[[Mapping[str, Any]], Block]:
    """Return what answers requests: a bundle that is `slowdown` times as slow as what it is measured beside.

    The machine takes the part `taken` of the wall clock. `crash_after` so many processes the runner crashes.
    """
    machine = Machine(law, seed=seed)
    count = 0

    def run(request: Mapping[str, Any]) -> Block:
        nonlocal count
        count += 1
        block = Block(spins=[(0.02 * taken, 5.0 * taken, 0.02)])
        if not request.get("sweep"):
            block.rss_mb = 100.0 + count % 2
            block.cold = {
                "start_ms": 20.0,
                "import_ms": 30.0,
                "load_ms": 40.0,
                "first_run_ms": 10.0,
                "total_ms": 100.0 + count % 3,
            }
        if crash_after is not None and count > crash_after:
            raise RunnerCrash("bundle: its runner crashed while it was measured (signal SIGSEGV)", block)
        block.warm_ms = [20.0, *([10.0] * (request.get("warm", 1) - 1))]
        if request.get("sweep"):
            rates = [(size, machine.calls(40) * slowdown * size / request["threads"]) for size in request["sweep"]]
            block.sweep = [{"batch": size, "ms": times.tolist()} for size, times in rates]
        elif request.get("scenario"):
            cpu = machine.calls(400) * slowdown
            wall = cpu / (1 - taken)
            block.scenario = {"wall_ms": wall.tolist(), "cpu_ms": cpu.tolist(), "batch_ms": [(32, ms) for ms in wall]}
        elif request.get("rounds"):
            pairs = np.stack(machine.block(slowdown, request["rounds"]), axis=2)  # [rounds, 1, 2]
            block.rounds = np.stack([pairs / (1 - taken), pairs], axis=3).repeat(len(request["texts"]), axis=1)
        return block

    return run
