"""Package a bundle for a server: a model repository of Triton, a container, or a function of a cloud."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ...manifest import file_records
from ..publish.staging import staged
from .packager import SUMS_FILE, Packaged

ServerKind = Literal["triton", "container", "lambda"]
"""What `headway package --for` has beside apps."""


def package_for_server(bundle: Path, kind: ServerKind, out: Path, *, force: bool = False) -> Packaged:
    """Write the package at `out`, completely or not at all.

    Raise UsageError where the bundle does not run there, SourceError where one of its files is missing or changed.
    """
    with staged(out, force=force, marker=SUMS_FILE) as staging:
        _WRITERS[kind](bundle, staging)
        sums = file_records(staging)
        text = "".join(f"{record['sha256']}  {name}\n" for name, record in sums.items())
        (staging / SUMS_FILE).write_text(text, encoding="utf-8")
        files = {name: int(record["bytes"]) for name, record in sums.items()} | {SUMS_FILE: len(text.encode())}
    return Packaged(out, files)


def _write_triton(bundle: Path, out: Path) -> None:
    from .triton.repository import plan_of, write_repository

    write_repository(plan_of(bundle.resolve().name, bundle), out)


def _write_container(bundle: Path, out: Path) -> None:
    from .deployment.service_files import write_container

    write_container(bundle, out)


def _write_function(bundle: Path, out: Path) -> None:
    from .deployment.service_files import write_function

    write_function(bundle, out)


_WRITERS: dict[ServerKind, Callable[[Path, Path], None]] = {
    "triton": _write_triton,
    "container": _write_container,
    "lambda": _write_function,
}
