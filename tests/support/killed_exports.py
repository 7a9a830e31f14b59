"""Run one command again and again, each time in a fork that kills itself at a file operation. Started by `test_kill`.

Arguments are the directory that the command writes in, "exchange" or "steps" (as on systems that cannot exchange two names at once),
and those of the command. The libraries are imported once, which is most of what
a run costs. Each line of standard input is the number of a file operation in that directory, counted from the one that makes the
run's staging directory; negative numbers count those before it, which clear what an earlier run left, from -1 on. The run kills
itself right before that operation, or never where the line is empty. One line of JSON answers: the status, as `os.waitpid` gives
it, and the operations from the staging directory on.
"""

import importlib
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

OWN = re.compile(r"\.new-[0-9a-f]{12}$")
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")
LIBRARIES = (
    "headway.exporter.cli.app",
    "headway.exporter.export",
    "headway.exporter.capture.onnx_file",
    "optimum.utils",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.tokenization_bert",
)


def watch(place: str, kill_at: int | None, told: int) -> None:
    """Write every operation that changes files in `place` to `told` before it happens; kill the process before number `kill_at`."""
    cleared, count = 0, -1  # -1: the staging directory is not there yet

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal cleared, count
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event not in CHANGES and not writes:
            return
        path = str(arguments[0])
        if Path(path).is_absolute() and not path.startswith(
            place
        ):  # a tree is removed by names, relative to their directory
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


def run(place: str, kill_at: int | None) -> tuple[int, list[str]]:
    """Run the command in a fork; return its status and the operations that it did."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        watch(place, kill_at, write)
        sys.modules["headway.exporter.cli.app"].main()
        os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as told:
        operations = told.read().splitlines()
    return os.waitpid(child, 0)[1], operations


def main() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    place, how = sys.argv.pop(1), sys.argv.pop(1)
    if how == "steps":
        importlib.import_module("headway.exporter.publish.exchange")._call = lambda: None
    for line in sys.stdin:
        status, operations = run(place, int(line) if line.strip() else None)
        print(json.dumps([status, operations]), flush=True)


if __name__ == "__main__":
    main()
