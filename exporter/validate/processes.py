"""Start the processes that measure, and read what they say, even where one of them crashes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import HeadwayError, SourceError, TargetError, UsageError
from .reference_work import ONE_THREAD

COMMAND = [sys.executable, "-m", "headway.exporter.validate.worker"]
_LONGEST = 1800.0
_REASON_LINES = 3
_REASON_LETTERS = 600


class RunnerCrash(Exception):
    """A process that measured a bundle ended before it was done; what it had measured is in `block`."""

    def __init__(self, message: str, block: "Block"):
        super().__init__(message)
        self.block = block


@dataclass
class Block:
    """What one process measured. `rounds` are milliseconds `[rounds, texts, 2 (own, other), 2 (wall, thread)]`."""

    cold: dict[str, float] = field(default_factory=dict)
    warm_ms: list[float] = field(default_factory=list)
    rounds: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 2, 2)))
    spins: list[tuple[float, float, float]] = field(default_factory=list)
    rss_mb: float | None = None
    scenario: dict[str, Any] = field(default_factory=dict)
    sweep: list[dict[str, Any]] = field(default_factory=list)


def run_block(request: Mapping[str, Any]) -> Block:
    """Run a request in a process of its own. Raise the bundle's own error where it cannot be opened, RunnerCrash where it dies."""
    content = json.dumps({**request, "bundle": str(Path(request["bundle"]).resolve()), "started": time.monotonic_ns()})
    try:
        done = subprocess.run(
            COMMAND,
            input=content,
            capture_output=True,
            text=True,
            timeout=_LONGEST,
            check=False,
            env=os.environ | ONE_THREAD,
        )
        output, code, said = done.stdout, done.returncode, done.stderr
    except subprocess.TimeoutExpired as error:
        output, code, said = _text(error.stdout), -signal.SIGKILL, f"no answer within {_LONGEST:.0f} s"
    block, refused = _read(output)
    if refused is not None:
        raise _error_of(refused)
    if code:
        why = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        last = " ".join(line.strip() for line in said.strip().splitlines()[-_REASON_LINES:])[-_REASON_LETTERS:]
        raise RunnerCrash(
            f"{request['bundle']}: its runner crashed while it was measured ({why}) {last}".rstrip(), block
        )
    return block


def _read(output: str) -> tuple[Block, Mapping[str, Any] | None]:
    """Return what was said; the last line of a process that was killed may be cut."""
    block, rounds = Block(), []
    for line in output.splitlines():
        try:
            result = json.loads(line)
        except ValueError:
            continue
        if not isinstance(result, dict):
            continue
        if "error" in result:
            return block, result
        block.cold = result.get("cold", block.cold)
        block.warm_ms = result.get("warm_ms", block.warm_ms)
        block.rss_mb = result.get("rss_mb", block.rss_mb)
        block.scenario |= result.get("scenario", {})
        block.sweep += [result["sweep"]] if "sweep" in result else []
        if "round" in result:
            rounds.append(result["round"])
        if "spin" in result:
            block.spins.append(tuple(result["spin"]))
    if rounds:
        block.rounds = np.array(rounds)
    return block, None


def _error_of(refused: Mapping[str, Any]) -> HeadwayError:
    kinds = {kind.exit_code: kind for kind in (UsageError, SourceError, TargetError)}
    return kinds.get(refused["code"], HeadwayError)(refused["error"])


def _text(output: str | bytes | None) -> str:
    return output.decode("utf-8", "replace") if isinstance(output, bytes) else output or ""
