"""Run commands, each in a fork that kills itself at a file operation or is sent a signal. Started by `test_kill`.

The libraries are imported once, which is most of what a run costs. Each line of standard input is an object of JSON:

- `arguments`: those of the command
- `place`: the directory that it writes in
- `steps`: true to run as on systems that cannot exchange two names at once
- `kill_at`: the number of a file operation in that directory, counted from the one that makes the run's staging directory; negative
  numbers count those before it, which clear what an earlier run left, from -1 on. The run kills itself right before that operation,
  or never where this is null.
- `signal`: what the run is sent as soon as its staging directory is there; 0 for nothing

One line of JSON answers: `status`, as `os.waitpid` gives it, `operations` from the staging directory on, and `said` on standard error.
"""

import importlib
import json
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

OWN = re.compile(r"\.new-[0-9a-f]{12}$")
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")
ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT
LIBRARIES = (
    "headway.exporter.cli.app",
    "headway.exporter.export",
    "headway.exporter.capture.onnx_file",
    "optimum.utils",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.tokenization_bert",
)


def within(directory: int, name: str) -> str:
    """Return the path of a name in an open directory, as trees are removed, where the system tells it; else the name."""
    try:
        return str(Path(f"/proc/self/fd/{directory}").readlink() / name)
    except OSError:
        return name


def watch(place: str, kill_at: int | None, told: int) -> None:
    """Write every operation that changes files in `place` to `told` before it happens; kill the process before number `kill_at`."""
    cleared, count = 0, -1  # -1: the staging directory is not there yet

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal cleared, count
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event not in CHANGES and not writes:
            return
        path = str(arguments[0])
        if not Path(path).is_absolute() and event in ("os.remove", "os.rmdir"):
            path = within(arguments[1], path)
        if Path(path).is_absolute() and not path.startswith(place):
            return
        if count < 0 and not (event == "os.mkdir" and OWN.search(path)):
            cleared += 1
        else:
            count += 1
        if kill_at == (count if count >= 0 else -cleared):
            os.kill(os.getpid(), signal.SIGKILL)
        if count >= 0:
            os.write(told, f"{event} {OWN.sub('.new-TOKEN', Path(path).name)}\n".encode())

    sys.addaudithook(on_event)


def run(told: dict[str, Any]) -> dict[str, Any]:
    """Run the command in a fork; return its status, the operations that it did, and what it said."""
    read, write = os.pipe()
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if child == 0:
            os.close(read)
            os.dup2(said.fileno(), 2)
            sys.argv[1:] = told["arguments"]
            if told["steps"]:
                importlib.import_module("headway.exporter.publish.exchange")._call = lambda: None
            watch(told["place"], told["kill_at"], write)
            sys.modules["headway.exporter.cli.app"].main()
            os._exit(0)
        os.close(write)
        if told["signal"]:
            while not list(Path(told["place"]).glob(".*.new-*")) and os.waitid(os.P_PID, child, ENDED) is None:
                time.sleep(0.02)
            os.kill(child, told["signal"])
        with os.fdopen(read, encoding="utf-8") as pipe:
            operations = pipe.read().splitlines()
        status = os.waitpid(child, 0)[1]
        said.seek(0)
        return {"status": status, "operations": operations, "said": said.read()}


def main() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
