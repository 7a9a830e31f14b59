"""Run a bundle in a scenario: LoadGen's four, and a closed loop that needs no LoadGen. Runs in a worker."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ...errors import TargetError, UsageError
from .feeds import feeds_of
from .load_generator import MISSING, Answer, Log, available, generate
from .noise import energy_joules, lost, spin
from .percentiles import percentile
from .server_search import Capacity, find_capacity

SCENARIOS = ("single-stream", "multi-stream", "offline", "server", "closed-loop")
BATCH = 32
_STREAMS = 8
_QUERIES_OF_A_TRIAL = 500
"""A p99 of fewer is not given."""


def check_scenarios(names: Sequence[str]) -> None:
    """Raise UsageError for a scenario that is none, TargetError where one needs LoadGen and it is not installed."""
    unknown = next((name for name in names if name not in SCENARIOS), None)
    if unknown is not None:
        raise UsageError(f"scenario {unknown!r} is not known: give {', '.join(SCENARIOS)}")
    needing = [name for name in names if name != "closed-loop"]
    if needing and not available():
        raise TargetError(f"scenario {needing[0]}: {MISSING}")


def run_scenario(bundle: Any, request: Mapping[str, Any], say: Callable[[Mapping[str, Any]], None]) -> None:
    """Run the `scenario` of a request over its `texts` for `seconds`, and say what happened. `bound_ms` is that of a server."""
    check_scenarios([request["scenario"]])
    texts = _Texts(bundle, request["texts"], tokenize=bool(request.get("tokenize")))
    for index in range(min(10, len(texts.texts))):
        texts.answer([index])
    say({"scenario": {"tokenization_ms": texts.tokenization_ms}, "spin": spin()})
    joules, cpu = energy_joules(), time.process_time()
    result = _run(texts, request)
    used, after = time.process_time() - cpu, energy_joules()
    result["cpu_seconds_per_1000_texts"] = used / max(texts.answered, 1) * 1e3
    if joules is not None and after is not None and after >= joules:
        result["joules_per_1000_texts"] = (after - joules) / max(texts.answered, 1) * 1e3
    say({"scenario": result, "spin": spin()})


class _Texts:
    """Texts that are answered by their numbers; tokenized before, or each time where `tokenize`."""

    def __init__(self, bundle: Any, texts: Sequence[str], *, tokenize: bool):
        self.texts, self.answered = list(texts), 0
        self._bundle, self._tokenize = bundle, tokenize
        self._choices = bundle.manifest.task == "multiple-choice"
        began = time.perf_counter()
        self._encodings = [bundle.encoder.encode([text])[0] for text in self.texts]
        self.tokenization_ms = (time.perf_counter() - began) * 1e3 / len(self.texts)

    def answer(self, indices: Sequence[int]) -> None:
        """Run texts as one batch."""
        self.answered += len(indices)
        if self._tokenize or self._choices:
            self._bundle.runner.run(feeds_of(self._bundle, [self.texts[i] for i in indices]))
        else:
            self._bundle.runner.run(self._bundle.encoder.batch([self._encodings[i] for i in indices]))


def _run(texts: _Texts, request: Mapping[str, Any]) -> dict[str, Any]:
    scenario, seconds = request["scenario"], float(request["seconds"])
    seed, count = int(request.get("seed", 0)), len(texts.texts)
    expected = _typical_ms(texts)
    if scenario == "server":
        return _search(texts, request, expected)
    if scenario == "closed-loop":
        log = closed_loop(texts.answer, count, seconds=seconds, seed=seed)
    else:
        log = generate(
            scenario,
            texts.answer,
            count,
            seconds=seconds,
            seed=seed,
            batch=BATCH,
            samples_per_query=_STREAMS,
            expected_ms=expected,
        )
    return asdict(log) | {"lost": lost(np.array(log.wall_ms), np.array(log.cpu_ms))}


def _typical_ms(texts: _Texts) -> float:
    times = []
    for index in range(min(20, len(texts.texts))):
        began = time.perf_counter()
        texts.answer([index])
        times.append((time.perf_counter() - began) * 1e3)
    return float(np.mean(times))


def _search(texts: _Texts, request: Mapping[str, Any], expected_ms: float) -> dict[str, Any]:
    """Return the capacity of a server, each trial with at least 500 queries. It is 0 where one answer alone takes longer than the bound."""
    if request["bound_ms"] <= expected_ms:
        return {"capacity": Capacity(0.0, 1e3 / expected_ms, ()).to_json(), "bound_ms": request["bound_ms"]}
    numbers = iter(range(1 << 30))
    tails: list[dict[str, float] | None] = []

    def trial(rate: float) -> tuple[int, int]:
        log = generate(
            "server",
            texts.answer,
            len(texts.texts),
            seconds=max(request["seconds"] / 8, _QUERIES_OF_A_TRIAL / rate),
            least=_QUERIES_OF_A_TRIAL,
            seed=next(numbers),
            rate=rate,
            bound_ms=request["bound_ms"],
        )
        tail = percentile(np.array(log.wall_ms), 99)
        tails.append(None if tail is None else tail.to_json())
        return log.counts["late"], log.counts["queries"]

    capacity = find_capacity(trial, expected_ms).to_json()
    return {"capacity": capacity, "bound_ms": request["bound_ms"], "p99_ms": tails}


def closed_loop(answer: Answer, texts: int, *, seconds: float, seed: int = 0, least: int = 20) -> Log:
    """Ask again as soon as an answer is there, for at least `seconds` and `least` queries, over texts in random order."""
    rng, log = np.random.default_rng(seed), Log()
    began = time.perf_counter()
    order: list[int] = []
    while (spent := time.perf_counter() - began) < seconds or len(log.wall_ms) < least:
        if not order:
            order = rng.permutation(texts).tolist()
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        answer([order.pop()])
        log.wall_ms.append((time.perf_counter_ns() - wall) / 1e6)
        log.cpu_ms.append((time.thread_time_ns() - cpu) / 1e6)
        log.batch_ms.append((1, log.wall_ms[-1]))
    log.seconds = spent
    return log
