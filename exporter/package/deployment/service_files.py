"""Write a folder from which a container is built, or a function is deployed; the text in it is for people to read and change.

container   Containerfile, requirements.txt, compose.yaml, kubernetes.yaml, headway.service, bundle/, wheels/, README.md
lambda      handler.py, requirements.txt, bundle/, README.md
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from .... import __version__
from ....errors import UsageError
from ....manifest import MANIFEST, Manifest, read_checked
from ..templates import environment
from .footprint import of_cold_start, of_serving
from .pins import RUNTIME, SERVER, pinned

P99 = 0.2
"""Seconds of `--p99` in the files."""

DRAIN = 30
"""Seconds of `--drain` in the files; whoever stops the server has to wait longer."""

_TEMPLATES = Path(__file__).parent / "templates"
_SPARE = 1.5
"""Memory that is asked for, in parts of what was measured: queues, connections and Python's own growth come on top."""

_MB = 1 << 20


def write_container(bundle: Path, out: Path) -> None:
    """Write the folder for a container. UsageError for bundles that the server does not serve."""
    manifest = _copied(bundle, out / "bundle")
    measured = of_serving(bundle, P99)
    values = _values(bundle, manifest) | {
        "p99": f"{round(1e3 * P99)}ms",
        "drain": DRAIN,
        "grace": DRAIN + 15,
        "memory": _round_up(_SPARE * measured.peak / _MB, 64),
        "limit": _round_up(2 * _SPARE * measured.peak / _MB, 64),
        "peak": round(measured.peak / _MB),
        "seconds": f"{measured.seconds:.1f}",
        "budget": measured.budget,
    }
    for name in ("Containerfile", "compose.yaml", "kubernetes.yaml", "headway.service", "README.md"):
        (out / name).write_text(_render(f"{name}.j2", **values), encoding="utf-8")
    (out / ".dockerignore").write_text(
        "README.md\ncompose.yaml\nkubernetes.yaml\nheadway.service\nSHA256SUMS\n", encoding="utf-8"
    )
    _write_requirements(out, (*RUNTIME, *SERVER))
    (out / "wheels").mkdir()
    (out / "wheels" / "README").write_text("The wheel of Headway belongs here: see README.md.\n", encoding="utf-8")


def write_function(bundle: Path, out: Path) -> None:
    """Write the folder for a function of a cloud. UsageError for multi-vector bundles, which read queries and documents in two ways."""
    manifest = _copied(bundle, out / "bundle")
    if manifest.task == "multi-vector":
        raise UsageError(
            f"{bundle}: reads queries and documents in two ways, which a function does not: serve it by code of your own"
        )
    measured = of_cold_start(bundle)
    values = _values(bundle, manifest) | {
        "peak": round(measured.peak / _MB),
        "memory": _round_up(_SPARE * measured.peak / _MB, 64),
        "seconds": f"{measured.seconds:.1f}",
        "megabytes": round(sum(record["bytes"] for record in manifest.files.values()) / 1e6),
    }
    (out / "handler.py").write_text(_render("handler.py.j2", **values), encoding="utf-8")
    (out / "README.md").write_text(_render("function.md.j2", **values), encoding="utf-8")
    _write_requirements(out, RUNTIME)


def _copied(bundle: Path, to: Path) -> Manifest:
    """Copy the files of a bundle that its manifest lists, after comparing them with their checksums."""
    manifest = read_checked(bundle)
    if manifest.target != "ort":
        raise UsageError(f"{bundle}: target {manifest.target} is not for a server's CPU; export with --target ort")
    for name in (MANIFEST, *manifest.files):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / name, to / name)
    return manifest


def _values(bundle: Path, manifest: Manifest) -> dict[str, Any]:
    name = re.sub(r"[^a-z0-9]+", "-", bundle.resolve().name.lower()).strip("-")[:40] or "model"
    return {
        "name": name,
        "task": manifest.task,
        "sha256": manifest.files[manifest.artifact]["sha256"],
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "method": _METHODS.get(manifest.task, ""),
        "custom": bool(manifest.session_options.get("kernels")),
    }


_METHODS = {
    "text-classification": "scores",
    "token-classification": "entities",
    "fill-mask": "fill",
    "question-answering": "answers",
    "multiple-choice": "choices",
}
"""By task, the bundle's method that a function calls; others give their outputs."""


def _round_up(value: float, step: int) -> int:
    return int(-(-value // step) * step)


def _write_requirements(out: Path, names: tuple[str, ...]) -> None:
    lines = ["# What was installed where this folder was written, and tried together.", *pinned(names)]
    (out / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _render(template: str, **values: Any) -> str:
    return environment(_TEMPLATES).get_template(template).render(version=__version__, **values)
