"""`headway gate`: measure a bundle, judge it by its gates, and write a lock that later runs are judged by."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...calibration.corpus import lines_or_builtin
from ...errors import UsageError
from ...manifest import MANIFEST, Manifest, check_files
from ..source.source import Source
from .estimates import Estimate
from .gate_rows import PERCENTILES, most_row, ratio_row, sorted_rows, wall_row
from .labeled import Labeled
from .lock import Lock, artifact_files, check_lock, identity_of, texts_of_run
from .modes import Mode
from .noise import Noise, lost, machine_facts, noise_of
from .outputs import GateResult
from .paired import Rule, block_of, measure_ratio
from .percentiles import median_of, percentile
from .processes import Block, RunnerCrash, run_block
from .quality_gate import gold_of, parity_gate, quality_gate, source_named, source_of
from .scenarios import check_scenarios
from .sweep import BATCHES, WARM_PROCESSES, WARM_RUNS, cells_of, thread_counts
from .throughput import throughput_of

_SLACK = {"max_mb": 1.05, "max_rss_mb": 1.10}
"""A bundle may have so many times what its lock has."""

_MOST_TEXTS = 512
_COLD_STARTS = 8
_BUSIER = 0.1
"""A machine that takes so much more of the time away is another one than when a lock was written."""

_SHAPES = (0.125, 0.375, 0.625, 0.875)
"""The texts of the comparison: the middles of the four quarters of the corpus, by length, as compressions are timed on."""


@dataclass(frozen=True)
class Question:
    """What is asked: limits by gate, the baseline (a bundle or a lock), where the source is, and which scenarios run besides.

    `sweep`: threads, batch sizes and the warm-up are measured, too.
    """

    bundle: Path
    limits: Mapping[str, float | bool]
    mode: Mode
    baseline: Path | None = None
    data: Path | None = None
    column: str | None = None
    against: str | None = None
    threads: int = 1
    scenarios: Sequence[str] = ()
    sweep: bool = False
    bound_ms: float | None = None
    tokenize: bool = False
    lock: bool = False


@dataclass
class Run:
    """What was measured so far."""

    question: Question
    manifest: Manifest
    texts: list[Any]
    gold: Labeled | None
    source: Source | None
    lock: Lock | None
    limits: dict[str, float | bool]
    result: GateResult
    step: Callable[..., None]
    spins: list[tuple[float, float, float]] = field(default_factory=list)
    colds: list[dict[str, float]] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)
    times: list[np.ndarray] = field(default_factory=list)

    @property
    def noise(self) -> Noise:
        """What the machine took away so far."""
        return noise_of(self.spins)

    def block(self, **request: Any) -> Block:
        """Run a process, and take what every process tells."""
        question = self.question
        try:
            block = run_block({"bundle": str(question.bundle), "threads": question.threads, **request})
        except RunnerCrash as crash:
            self._take(crash.block)
            raise
        self._take(block)
        return block

    def _take(self, block: Block) -> None:
        self.spins += block.spins
        self.colds += [block.cold] if block.cold else []
        self.rss += [block.rss_mb] if block.rss_mb is not None else []
        if len(block.rounds):
            self.times.append(block.rounds)


def gate_bundle(
    question: Question, on_step: Callable[..., None] = lambda *_, **__: None
) -> tuple[GateResult, Lock | None]:
    """Return the verdict on a bundle, and its lock where one was asked for.

    A runner that crashes ends the run; the result has what was measured before, and fails. Raises UsageError where there is nothing to
    judge by, where the lock or the data belong to something else; SourceError where a file of the bundle was changed; TargetError where
    it cannot run here, or where a scenario needs LoadGen.
    """
    began = time.perf_counter()
    run = _prepared(question, on_step)
    lock = None
    try:
        lock = _measured(run)
    except RunnerCrash as crash:
        run.result.crash = str(crash)
        _figures(run)
    run.result.rows = sorted_rows(run.result.rows)
    run.result.seconds = time.perf_counter() - began
    return run.result, lock


def _prepared(question: Question, step: Callable[..., None]) -> Run:
    """Read all that is given, and refuse what does not belong together, before anything is measured."""
    step("read the bundle")
    path = question.bundle
    manifest = Manifest.read(path)
    check_files(path, manifest)
    limits = dict(question.limits)
    is_bundle = question.baseline is not None and (question.baseline / MANIFEST).is_file()
    lock = None if question.baseline is None or is_bundle else Lock.read(question.baseline)
    if "speedup_vs" in limits and question.baseline is None:
        raise UsageError("speedup_vs is the speed beside a baseline: give --baseline, a bundle or a lock")
    if question.baseline is not None:
        limits.setdefault("speedup_vs", question.mode.speedup)
    if is_bundle and question.baseline is not None:
        if question.lock:
            raise UsageError(
                "--lock measures beside the reference workload, and --baseline beside another bundle: run the gate once for each"
            )
        _check_baseline(question.baseline, path, manifest)
    if not (limits or question.lock or question.scenarios or question.sweep):
        raise UsageError(
            f"{path}: nothing to judge by: give --gate, as p99_ms=20, `gates:` in its recipe, --baseline, or --lock to write a baseline"
        )
    check_scenarios(_scenarios(question, limits))
    if "parity" in limits:
        source_named(question)  # before anything is measured
    gold = gold_of(question.data, question.column, manifest, needed="max_quality_drop" in limits)
    source = source_of(question, manifest) if gold is not None else None
    texts = list(gold.texts) if gold is not None else lines_or_builtin(question.data, question.column)
    texts = _sample(texts)
    facts = machine_facts(question.threads)
    identity = identity_of(path, manifest)
    result = GateResult(path.resolve().name, question.mode.name, machine=facts, artifact=identity["artifact"])
    if lock is not None and question.baseline is not None:
        result.remarks += check_lock(lock, question.baseline, identity, middles(texts), question.threads, facts)
        limits.setdefault("max_mb", lock.mb * _SLACK["max_mb"])
        if lock.rss_mb is not None:
            limits.setdefault("max_rss_mb", lock.rss_mb * _SLACK["max_rss_mb"])
    return Run(question, manifest, texts, gold, source, lock, limits, result, step)


def _check_baseline(baseline: Path, bundle: Path, manifest: Manifest) -> None:
    """Raise SourceError where a file of a bundle to compare with was changed, UsageError where it is another model's."""
    other = Manifest.read(baseline)
    check_files(baseline, other)
    if (other.source["fingerprint"], other.task) != (manifest.source["fingerprint"], manifest.task):
        raise UsageError(
            f"{baseline}: was made from another model than {bundle}, or for another task: give a bundle of the same one"
        )


def _sample(texts: Sequence[Any]) -> list[Any]:
    """Return at most 512 texts, the same for the same corpus."""
    if len(texts) <= _MOST_TEXTS:
        return list(texts)
    return [texts[i] for i in np.sort(np.random.default_rng(0).permutation(len(texts))[:_MOST_TEXTS])]


def middles(texts: Sequence[Any]) -> list[Any]:
    """Return the texts in the middles of the four quarters of a corpus, by their lengths in characters."""
    ordered = sorted(texts, key=lambda text: (len(text) if isinstance(text, str) else sum(map(len, text)), text))
    return [ordered[min(int(part * len(ordered)), len(ordered) - 1)] for part in _SHAPES]


def _measured(run: Run) -> Lock | None:
    """Measure what the gates ask for, cheap and quiet parts first, and add their rows."""
    question, limits, rows = run.question, run.limits, run.result.rows
    names = artifact_files(question.bundle, run.manifest)
    mb = sum(run.manifest.files[name]["bytes"] for name in names) / 1e6
    run.result.figures["mb"] = mb
    if "max_mb" in limits:
        rows.append(most_row("max_mb", float(limits["max_mb"]), Estimate.exact(mb)))
    lock = _ratio(run, mb) if "speedup_vs" in limits or question.lock else None
    for scenario in _scenarios(question, limits):
        _scenario(run, scenario)
    if question.sweep:
        _sweep(run)
    _processes(run)
    _figures(run)
    if run.gold is not None and run.source is not None:
        run.step("quality on labels")
        row, figures = quality_gate(question, run.manifest, run.source, run.gold, float(limits["max_quality_drop"]))
        rows.append(row)
        run.result.figures["quality"] = figures
    if "parity" in limits:
        run.step("parity with the source")
        rows.append(parity_gate(question))
    return lock


def _ratio(run: Run, mb: float) -> Lock | None:
    """Compare with the baseline, or measure a lock: in both cases beside something else in the same processes."""
    question, mode = run.question, run.question.mode
    other = None if run.lock is not None or question.lock else str(Path(question.baseline or ".").resolve())
    clock = 1 if question.threads == 1 else 0
    texts = middles(run.texts)
    limit = float(run.limits.get("speedup_vs", mode.speedup))
    rule = Rule(
        mode.half_width * (0.7 if question.lock else 1.0), mode.ratio_seconds, None if question.lock else 1 / limit
    )

    def next_block() -> float:
        block = run.block(texts=texts, rounds=mode.rounds, other=other)
        return block_of(block.rounds[:, :, 0, clock], block.rounds[:, :, 1, clock])

    run.step("compare with the baseline" if question.baseline else "measure the lock")
    since = None if run.lock is None else np.array(run.lock.blocks)
    ratio, blocks = measure_ratio(next_block, rule, time.perf_counter, since)
    run.result.figures["ratio"] = ratio.estimate.to_json() | {"detectable": ratio.detectable, "blocks": blocks.tolist()}
    if question.baseline is not None and "speedup_vs" in run.limits:
        name = "the lock" if run.lock is not None else question.baseline.resolve().name
        busier = run.lock is not None and _share(run) > run.lock.noise + _BUSIER
        run.result.rows.append(ratio_row(limit, ratio, name, busier=busier))
    if not question.lock:
        return None
    times = np.concatenate(run.times)[..., clock]
    rss = float(np.median(run.rss)) if run.rss else None
    identity = identity_of(question.bundle, run.manifest)
    return Lock(
        tuple(blocks.tolist()),
        source=identity["source"],
        task=identity["task"],
        artifact=identity["artifact"],
        texts=texts_of_run(texts),
        threads=question.threads,
        mb=mb,
        rss_mb=rss,
        milliseconds=tuple(np.median(times[..., 0], axis=0).tolist()),
        reference_ms=float(np.median(times[..., 1])),
        machine=run.result.machine,
        noise=_share(run),
    )


def _share(run: Run) -> float:
    """Return the part of the time that calls of the comparison lost, or that a loop lost where calls have several threads."""
    if run.question.threads > 1 or not run.times:
        return run.noise.share
    times = np.concatenate(run.times)
    return lost(times[..., 0], times[..., 1])


def _scenarios(question: Question, limits: Mapping[str, float | bool]) -> list[str]:
    """Return the scenarios that gates need, and those that were asked for. The closed loop stands for those that need LoadGen."""
    asked = list(dict.fromkeys(question.scenarios))
    loop = "closed-loop" in asked
    needed = ["single-stream"] if PERCENTILES.keys() & limits.keys() else []
    needed += ["offline"] if "throughput" in limits else []
    if loop:
        needed = ["closed-loop"] if needed else []
    if "server" in asked and question.bound_ms is None:
        raise UsageError("scenario server: give --bound, the milliseconds that 99 % of the answers have to keep")
    return list(dict.fromkeys([*needed, *asked]))


def _scenario(run: Run, scenario: str) -> None:
    """Run a scenario in several processes, and add the rows that are read from it."""
    question, mode, limits = run.question, run.question.mode, run.limits
    logs = []
    for number in range(mode.processes if scenario != "server" else 1):
        run.step(f"scenario {scenario}", of=1 if scenario == "server" else mode.processes)
        block = run.block(
            texts=run.texts,
            scenario=scenario,
            seconds=mode.scenario_seconds,
            seed=number,
            bound_ms=question.bound_ms,
            tokenize=question.tokenize,
        )
        logs.append(block.scenario)
    if scenario == "server":
        run.result.figures[scenario] = logs[0]
        return
    wall, cpu = (np.concatenate([log[name] for log in logs]) for name in ("wall_ms", "cpu_ms"))
    if question.threads == 1:
        run.spins.append(_taken(wall, cpu))
    run.result.figures[scenario] = {
        "percentiles": {name: _plain(percentile(wall, q)) for name, q in PERCENTILES.items()},
        "latencies_ms": np.round(wall, 4).tolist(),
        "runs": [{k: v for k, v in log.items() if k not in ("wall_ms", "cpu_ms", "batch_ms")} for log in logs],
    }
    one = cpu if question.threads == 1 else None
    if scenario in ("single-stream", "closed-loop"):
        for gate in PERCENTILES.keys() & limits.keys():
            q, limit = PERCENTILES[gate], float(limits[gate])
            clean = None if one is None else percentile(one, q)
            run.result.rows.append(wall_row(gate, limit, percentile(wall, q), clean, run.noise, len(wall)))
    if "throughput" in limits and scenario in ("offline", "closed-loop"):
        sizes = np.concatenate([[size for size, _ in log["batch_ms"]] for log in logs])
        clean = None if one is None else throughput_of(sizes, one)
        limit = float(limits["throughput"])
        run.result.rows.append(wall_row("throughput", limit, throughput_of(sizes, wall), clean, run.noise, len(wall)))


def _sweep(run: Run) -> None:
    """Measure the warm-up in processes of their own, and every size of batch with every number of threads."""
    figures, counts = run.result.figures, thread_counts()
    curves: list[list[float]] = []
    for _ in range(WARM_PROCESSES):
        run.step("warm-up and sweep", of=WARM_PROCESSES + len(counts))
        curves.append(run.block(texts=middles(run.texts)[:1], warm=WARM_RUNS).warm_ms)
        figures["warm_up_ms"] = curves
    figures["sweep"] = cells = []
    for threads in counts:
        run.step("warm-up and sweep", of=WARM_PROCESSES + len(counts))
        request = {"texts": run.texts, "sweep": BATCHES, "seconds": run.question.mode.sweep_seconds}
        cells += cells_of(threads, run.block(**request, threads=threads).sweep)


def _taken(wall: np.ndarray, cpu: np.ndarray) -> tuple[float, float, float]:
    """Return what single-threaded calls lost, as a spin: seconds taken, longest pause in milliseconds, seconds in all."""
    lost = np.maximum(wall - cpu, 0.0)
    return float(lost.sum()) / 1e3, float(lost.max(initial=0.0)), float(wall.sum()) / 1e3


def _processes(run: Run) -> None:
    """Start more processes where a gate asks for cold starts or memory and too few were started; add their rows."""
    limits = run.limits
    asked = [gate for gate in ("cold_start_ms", "max_rss_mb") if gate in limits]
    while asked and len(run.colds) < _COLD_STARTS:
        run.step("cold starts", of=_COLD_STARTS, at=len(run.colds))
        run.block(texts=middles(run.texts))
    if "cold_start_ms" in limits:
        figure = median_of([cold["total_ms"] for cold in run.colds])
        parts = {name: float(np.median([cold[name] for cold in run.colds])) for name in run.colds[0]}
        note = ", ".join(
            f"{name.removesuffix('_ms').replace('_', ' ')} {ms:.0f}" for name, ms in parts.items() if name != "total_ms"
        )
        run.result.rows.append(most_row("cold_start_ms", float(limits["cold_start_ms"]), figure, run.noise, note=note))
    if "max_rss_mb" in limits:
        run.result.rows.append(most_row("max_rss_mb", float(limits["max_rss_mb"]), median_of(run.rss)))


def _figures(run: Run) -> None:
    """Put what every process told into the result."""
    figures, noise = run.result.figures, run.noise
    figures["noise"] = noise.to_json()
    figures["cold_starts"] = run.colds
    figures["peak_rss_mb"] = _plain(median_of(run.rss))
    if not noise.quiet:
        run.result.remarks.append(
            f"the machine took {100 * noise.share:.0f} % of the time away: figures by the wall clock are those of a busy machine"
        )


def _plain(figure: Any) -> dict[str, float] | None:
    return None if figure is None else figure.to_json()
