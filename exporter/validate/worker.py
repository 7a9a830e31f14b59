"""Measure a bundle in a process of its own: cold start, paired rounds, memory, scenarios. Each result is one line of JSON.

A process of its own for every block of rounds: the blocks of one bundle differ by where its weights lie in memory, as production's
processes do, a cold start is one of them, and a runner that crashes takes no result with it that was there before.
"""

import time

_ENTERED = time.monotonic_ns()

import json  # noqa: E402 - whatever is imported from here on counts as importing
import sys  # noqa: E402
from collections.abc import Mapping  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402


def main() -> None:
    """Read a request from standard input, and write results as they come. Exit codes are those of `errors`."""
    request = json.loads(sys.stdin.read())
    from ...errors import HeadwayError

    try:
        work(request, say)
    except HeadwayError as error:
        say({"error": str(error), "code": error.exit_code})
        sys.exit(error.exit_code)


def say(result: Mapping[str, Any]) -> None:
    """Write a result as a line."""
    print(json.dumps(result), flush=True)


def work(request: Mapping[str, Any], say: Any) -> None:
    """Measure what a request asks for: `bundle`, `threads`, `texts`, and `rounds` beside `other`, a `scenario`, or a `sweep`.

    `sweep` are sizes of batches, `warm` runs of the first text are told one by one, the very first among them.
    """
    begun = time.monotonic_ns()
    from ...bundle import Bundle
    from .feeds import feeds_of

    imported = time.monotonic_ns()
    bundle = Bundle.open(request["bundle"], threads=request["threads"])
    loaded = time.monotonic_ns()
    feeds = feeds_of(bundle, request["texts"][:1])
    tokenized = time.monotonic_ns()
    bundle.runner.run(feeds)
    answered = time.monotonic_ns()
    started = request.get("started", _ENTERED)
    cold = {
        "start_ms": (min(begun, _ENTERED) - started) / 1e6,
        "import_ms": (imported - begun) / 1e6,
        "load_ms": (loaded - imported) / 1e6,
        "first_run_ms": (answered - loaded) / 1e6,
        "total_ms": (answered - started) / 1e6,
    }
    if not request.get("sweep"):  # which has other numbers of threads than those that a gate is about
        say({"cold": cold})
    if request.get("warm"):
        others = [_timed(bundle.runner.run, feeds)[0] for _ in range(request["warm"] - 1)]
        say({"warm_ms": [(answered - tokenized) / 1e6, *others]})
    if request.get("sweep"):
        from .sweep import run_sweep

        run_sweep(bundle, request, say)
        return
    if request.get("scenario"):
        from .scenarios import run_scenario

        run_scenario(bundle, request, say)
        say({"rss_mb": peak_rss_mb()})
        return
    for text in request["texts"]:
        bundle.runner.run(feeds_of(bundle, [text]))
    say({"rss_mb": peak_rss_mb()})  # before anything else is opened that it is compared with
    if request.get("rounds"):
        rounds(bundle, request, say)


def rounds(bundle: Any, request: Mapping[str, Any], say: Any) -> None:
    """Time the bundle beside another, or beside the reference workload, in rounds over single texts; who goes first changes."""
    from ..bench.measure import IDLE_SECONDS
    from .feeds import feeds_of
    from .noise import spin

    batches = [feeds_of(bundle, [text]) for text in request["texts"]]
    runners = [bundle.runner.run, _other(request)]
    for runner in runners:
        for batch in batches:
            runner(batch)
    one = request["threads"] == 1
    for number in range(request["rounds"]):
        turn = [[[0.0, 0.0], [0.0, 0.0]] for _ in batches]
        for i, batch in enumerate(batches):
            for j in range(2):
                index = (j + number) % 2
                if not one:
                    time.sleep(IDLE_SECONDS)
                    runners[index](batch)  # threads that slept may share a processor for their first milliseconds
                turn[i][index] = list(_timed(runners[index], batch))
        say({"round": turn, "spin": spin()})


def _other(request: Mapping[str, Any]) -> Any:
    if request.get("other") is None:
        from .reference_work import ReferenceWork

        return ReferenceWork().run
    from ...bundle import Bundle

    return Bundle.open(request["other"], threads=request["threads"]).runner.run


def _timed(run: Any, batch: Mapping[str, Any]) -> tuple[float, float]:
    """Return milliseconds of a call by the wall clock, and by the clock of this thread."""
    cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
    run(batch)
    return (time.perf_counter_ns() - wall) / 1e6, (time.thread_time_ns() - cpu) / 1e6


def peak_rss_mb() -> float | None:
    """Return the most memory that this process had, in MB; None where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    lines = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) * 1024 / 1e6 if lines else None


if __name__ == "__main__":
    main()
