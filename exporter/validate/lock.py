"""Read and write `headway.lock`: a bundle's latency as ratios to a reference workload, which later runs are judged by."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...calibration.corpus import fingerprint
from ...errors import UsageError
from ...json_file import read_any_json
from ...manifest import Manifest
from ...runners.open import opened_files
from ..publish.writing import written
from .noise import machine_kind
from .reference_work import NAME

LOCK_FILE = "headway.lock"
_VERSION = 1
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Lock:
    """What a bundle was when it was locked. `blocks` are logarithms of its latency over the reference workload's, one a process.

    `source` and `task` say which model it is, `artifact` which bytes; `texts` is the fingerprint of the texts that were timed;
    `noise` the part of the time that the machine took away.
    """

    blocks: tuple[float, ...]
    source: str
    task: str
    artifact: str
    texts: str
    threads: int
    mb: float
    rss_mb: float | None
    milliseconds: tuple[float, ...]
    reference_ms: float
    machine: dict[str, Any]
    noise: float = 0.0
    reference: str = NAME
    version: int = _VERSION

    @property
    def kind(self) -> str:
        """The kind of machine that it holds on."""
        return machine_kind(self.machine)

    @property
    def ratio(self) -> float:
        """The bundle's latency over the reference workload's."""
        return float(np.exp(np.mean(self.blocks)))

    def write(self, path: Path) -> None:
        """Write the lock."""
        content = asdict(self) | {"kind": self.kind, "ratio": self.ratio}
        with written(path):
            path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Lock":
        """Read a lock. UsageError where it is none, or one of another version."""
        raw = read_any_json(path, _MOST_BYTES) if path.is_file() else None
        if not isinstance(raw, dict):
            raise UsageError(
                f"{path}: no bundle and no lock: give a bundle, or a file that `headway gate --lock` wrote"
            )
        if raw.get("version") != _VERSION or raw.get("reference") != NAME:
            raise UsageError(f"{path}: a lock of another version of Headway; write it again with `headway gate --lock`")
        try:
            known = {name: raw[name] for name in cls.__dataclass_fields__}
            blocks, times = (tuple(float(x) for x in known[name]) for name in ("blocks", "milliseconds"))
            sizes = {name: float(known[name]) for name in ("mb", "noise", "reference_ms")}
            rss = None if known["rss_mb"] is None else float(known["rss_mb"])
            machine = dict(known["machine"]) | {"versions": dict(known["machine"]["versions"])}
            if len(blocks) < 4 or not np.isfinite([*blocks, *sizes.values(), rss or 0.0]).all():
                raise ValueError("too few blocks")
            machine_kind(machine)
            return cls(**known | sizes | {"blocks": blocks, "milliseconds": times, "machine": machine, "rss_mb": rss})
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{path}: a lock that was changed or cut; write it again with `headway gate --lock`"
            ) from error


def identity_of(bundle: Path, manifest: Manifest) -> dict[str, str]:
    """Return which model a bundle is, and which bytes are opened."""
    return {
        "source": str(manifest.source["fingerprint"]),
        "task": manifest.task,
        "artifact": fingerprint([str(manifest.files[name]["sha256"]) for name in artifact_files(bundle, manifest)]),
    }


def artifact_files(bundle: Path, manifest: Manifest) -> list[str]:
    """Return the names of the files that are opened, weights included, in order."""
    names = opened_files(manifest.runner, bundle, manifest.artifact, providers=False)
    return sorted(name for name in names if name in manifest.files)


def check_lock(
    lock: Lock, where: Path, identity: Mapping[str, str], texts: Sequence[Any], threads: int, machine: Mapping[str, Any]
) -> list[str]:
    """Return remarks on a lock that a bundle is to be judged by. UsageError where it says nothing about it, with the reason."""
    kind = machine_kind(dict(machine))
    if lock.kind != kind:
        raise UsageError(
            f"{where}: was written on another kind of machine ({lock.kind}), and this is {kind}: its ratios, and limits in milliseconds "
            "that belong to it, say nothing here. Write a lock on this machine with `headway gate --lock`"
        )
    if (lock.source, lock.task) != (identity["source"], identity["task"]):
        raise UsageError(f"{where}: is the lock of another model; write one of this bundle with `headway gate --lock`")
    if lock.threads != threads:
        raise UsageError(f"{where}: was measured with {lock.threads} thread(s): give --threads {lock.threads}")
    if lock.texts != texts_of_run(texts):
        raise UsageError(f"{where}: was measured on other texts: give the same --data, or write the lock again with it")
    remarks = []
    if lock.artifact != identity["artifact"]:
        remarks.append(
            "the bundle changed since its lock: other bytes of the same model; it is judged by the lock all the same"
        )
    return remarks + _versions(lock.machine, machine)


def _versions(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    changed = [
        f"{name} {old} then, {now['versions'][name]} now"
        for name, old in then["versions"].items()
        if name != "torch" and now["versions"].get(name, old) != old
    ]
    remarks = [f"versions changed since the lock: {', '.join(changed)}"] if changed else []
    if any(text.startswith("numpy") for text in changed):
        remarks.append(
            "numpy does the reference workload: where a verdict fails, write a new lock with both versions and compare"
        )
    return remarks


def texts_of_run(texts: Sequence[Any]) -> str:
    """Return the fingerprint of the texts that are timed."""
    return fingerprint([text if isinstance(text, str) else "\t".join(text) for text in texts])
