"""Measure what a bundle needs where it runs: memory, and the time to its first answer, in a process of its own."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ....errors import TargetError

_SERVING = """
import json, resource, sys, time
start = time.perf_counter()
from pathlib import Path
from headway.serving.server_settings import ServerSettings
from headway.serving.served_bundle import OpenedBundle
opened = OpenedBundle("model", Path(sys.argv[1]), ServerSettings(p99=float(sys.argv[2])))
texts = ["the train runs on time"] * max(1, opened.budget // 8)
if opened.manifest.task == "multiple-choice":
    opened.bundle.choices([("when?", texts)])
else:
    opened.bundle(texts)
scale = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
print(json.dumps({"seconds": time.perf_counter() - start, "peak": peak, "budget": opened.budget}))
"""

_COLD = """
import json, resource, sys, time
start = time.perf_counter()
import headway
bundle = headway.open(sys.argv[1], threads=1)
text = "the train runs on time"
if bundle.manifest.task == "multiple-choice":
    bundle.choices([("when?", [text])])
else:
    bundle([text])
scale = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
print(json.dumps({"seconds": time.perf_counter() - start, "peak": peak, "budget": 0}))
"""


@dataclass(frozen=True)
class Footprint:
    """Seconds until the first answer, the most bytes that were resident, and tokens of a batch (0 where it was one text)."""

    seconds: float
    peak: int
    budget: int


def of_serving(bundle: Path, p99: float) -> Footprint:
    """Return what a process needs that opens a bundle as the server does, and runs a full batch."""
    return _measured(_SERVING, str(bundle), str(p99))


def of_cold_start(bundle: Path) -> Footprint:
    """Return what a process needs that imports Headway, opens a bundle and answers one text."""
    return _measured(_COLD, str(bundle))


def _measured(script: str, *words: str) -> Footprint:
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TargetError(f"the bundle could not be run here to measure it: {last[:300]}")
    return Footprint(**json.loads(done.stdout.splitlines()[-1]))
