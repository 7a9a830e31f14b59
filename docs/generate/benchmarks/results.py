"""Read what benchmarks have recorded, and say where it was measured."""

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

from .. import places


@cache
def read(name: str) -> dict[str, Any]:
    """Return the content of `benchmarks/results/NAME.json`."""
    return json.loads((places.RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def recorded(name: str) -> dict[str, Any]:
    """Return figures that were measured by hand once, with their origin."""
    return read("recorded")[name]


def source(*names: str) -> str:
    """Return a line that says which files the figures come from, and on which machine they were taken."""
    machine = _machine(read(names[0]))
    files = ", ".join(f"`benchmarks/results/{name}.json`" for name in names)
    return f"*Source: {files}.*" if machine is None else f"*Source: {files}. Machine: {told(machine)}.*"


def told(machine: dict[str, Any]) -> str:
    """Return a machine in words: its processor, vector instructions and versions."""
    features = ", ".join(machine["features"])
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return f"{machine['cpu']}, {machine['cores']} cores ({features}); {machine['system']}, Python {machine['python']}, {versions}"


def sources(name: str, machines: Iterable[dict[str, Any]]) -> tuple[str, list[str]]:
    """Return the line of `source` for a file whose figures carry machines of their own, and the letter of each machine given.

    Letters are empty where all are the same machine.
    """
    known: list[dict[str, Any]] = []
    places = []
    for machine in machines:
        if machine not in known:
            known.append(machine)
        places.append(known.index(machine))
    if len(known) == 1:
        return f"*Source: `benchmarks/results/{name}.json`. Machine: {told(known[0])}.*", [""] * len(places)
    lines = [f"machine {chr(65 + i)}: {told(machine)}" for i, machine in enumerate(known)]
    return f"*Source: `benchmarks/results/{name}.json`; {'; '.join(lines)}.*", [chr(65 + i) for i in places]


def _machine(content: dict[str, Any]) -> dict[str, Any] | None:
    """Return the machine that a file names, at its top or beside the times in it."""
    for key in ("machine", "here"):
        if key in content:
            return content[key]
    inner = [value for value in content.get("speed", {}).values() if isinstance(value, dict)]
    return next((value["machine"] for value in [content.get("speed", {}), *inner] if "machine" in value), None)


def origin(name: str) -> str:
    """Return a line on figures that no script keeps: who measured them how, and when."""
    content = recorded(name)["origin"]
    noted = f"Noted on {content['date']} (commit {content['commit']}); no script keeps these figures."
    return f"*Source: `benchmarks/results/recorded.json`. {content['how']} {noted}*"


def renamed(name: str) -> str:
    """Return a contestant's name as the documentation spells it."""
    return name.replace("by channel", "per channel").replace("Headway kernels", "Headway, `--kernels custom`")
