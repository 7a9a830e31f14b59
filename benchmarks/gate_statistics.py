"""Whether the gate's intervals and verdicts hold what they say: 1,000 simulations for each law of a runner, counted against the truth.

    python -m benchmarks.gate_statistics [--simulations 1000]

Runners take 10 ms times a noise: constant (1 % of jitter), bimodal (30 % of the calls take 1.3 times as long), drifting (a factor with a
spread of 10 % that forgets itself within half a second), bursts (for 50 ms, every half second, calls take up to twice as long). Sessions of
one model differ by 1 %, as processes do. A simulated clock counts the budget. Runs at the limit
itself are a fifth as many, with a budget of 30 seconds; searches for a server's capacity a tenth. It takes some minutes on one core.
"""

import argparse
from typing import Any

import numpy as np

from headway.exporter.validate.estimates import at_most
from headway.exporter.validate.modes import MODES, Mode
from headway.exporter.validate.paired import Ratio, Rule, block_of, measure_ratio, ratio_of
from headway.exporter.validate.percentiles import percentile
from headway.exporter.validate.server_search import find_capacity

from .results import save
from tests.support.simulated import LAWS, Machine, capacity, queue, true_percentile

_CALLS = 2000
_BLOCKS = 30
_QUANTILES = (50, 90, 99)
SLOWDOWNS = {"quick": (1.0, 1.10, 1.20), "default": (1.0, 1.10), "long": (1.0, 1.05)}
_QUERIES = 20_000
_SERVICE_MS = 10.0


def percentile_coverage(law: str, simulations: int) -> dict[str, Any]:
    """Return, for each percentile, the part of the intervals that hold the truth, and the part of the runs that gave none."""
    held: dict[int, list[bool]] = {q: [] for q in _QUANTILES}
    for seed in range(simulations):
        samples = Machine(law, seed=seed).calls(_CALLS)
        for q in _QUANTILES:
            figure = percentile(samples, q)
            if figure is not None:
                held[q].append(figure.low <= true_percentile(law, q) <= figure.high)
    return {
        f"p{q}": {"coverage": float(np.mean(x)) if x else None, "not_given": 1 - len(x) / simulations}
        for q, x in held.items()
    }


def ratio_coverage(law: str, simulations: int) -> float:
    """Return the part of the intervals of a ratio from 30 blocks that hold the truth."""
    held = []
    for seed in range(simulations):
        machine = Machine(law, seed=seed)
        found = ratio_of(np.array([block_of(*machine.block(1.07)) for _ in range(_BLOCKS)])).estimate
        held.append(found.low <= 1.07 <= found.high)
    return float(np.mean(held))


def _measured(machine: Machine, slowdown: float, mode: Mode, rule: Rule) -> tuple[Ratio, np.ndarray]:
    return measure_ratio(lambda: block_of(*machine.block(slowdown, mode.rounds)), rule, machine.clock)


def verdicts(law: str, mode: Mode, slowdown: float, simulations: int, seconds: float | None = None) -> dict[str, Any]:
    """Return how often a bundle that is `slowdown` times as slow as its baseline passes, fails and stays undecided."""
    limit = 1 / mode.speedup
    rule = Rule(mode.half_width, mode.ratio_seconds if seconds is None else seconds, limit)
    counts, held, blocks, spent = {"pass": 0, "fail": 0, "undecided": 0}, 0, 0, 0.0
    for seed in range(simulations):
        machine = Machine(law, seed=seed, start=1.0)  # what a process costs before its rounds
        ratio, measured = _measured(machine, slowdown, mode, rule)
        counts[at_most(ratio.estimate, limit)] += 1
        held += ratio.estimate.low <= slowdown <= ratio.estimate.high
        blocks, spent = blocks + len(measured), spent + machine.now
    parts = {name: count / simulations for name, count in counts.items()}
    return parts | {"coverage": held / simulations, "blocks": blocks / simulations, "seconds": spent / simulations}


def _searched(bound: float, seed: int) -> float:
    sojourn = queue(_SERVICE_MS, _QUERIES, seed=1000 * seed)
    return find_capacity(lambda rate: (int((sojourn(rate) > bound).sum()), _QUERIES), _SERVICE_MS).rate


def server_capacities(simulations: int) -> list[dict[str, float]]:
    """Return how far the search's rate is from the capacity of an M/D/1 queue: median and largest distance, as parts."""
    rows = []
    for bound in (30.0, 60.0, 150.0):
        truth, found = capacity(_SERVICE_MS, bound), []
        for seed in range(simulations):
            found.append(_searched(bound, seed) / truth)
        distance = np.abs(np.array(found) - 1)
        rows.append(
            {
                "bound_ms": bound,
                "capacity": truth,
                "median": float(np.median(distance)),
                "largest": float(distance.max()),
                "within_5_percent": float((distance <= 0.05).mean()),
            }
        )
    return rows


def main() -> None:
    """Run all simulations, and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate_statistics", description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    count = parser.parse_args().simulations
    result: dict[str, Any] = {"simulations": count, "calls": _CALLS, "blocks": _BLOCKS, "queries": _QUERIES}
    result["percentiles"] = {law: percentile_coverage(law, count) for law in LAWS}
    print(result["percentiles"], flush=True)
    result["ratios"] = {law: ratio_coverage(law, count) for law in LAWS}
    print(result["ratios"], flush=True)
    result["verdicts"] = []
    for name, slowdowns in SLOWDOWNS.items():
        for law in LAWS:
            for slowdown in slowdowns:
                row = {"mode": name, "law": law, "slowdown": slowdown} | verdicts(law, MODES[name], slowdown, count)
                result["verdicts"].append(row)
                print(row, flush=True)
    limit = 1 / MODES["default"].speedup
    result["at_the_limit"] = {
        law: verdicts(law, MODES["default"], limit, count // 5 or 1, seconds=30.0) for law in LAWS
    }
    print(result["at_the_limit"], flush=True)
    result["server"] = server_capacities(count // 10 or 1)
    print(result["server"], flush=True)
    save("gate-statistics", result)


if __name__ == "__main__":
    main()
