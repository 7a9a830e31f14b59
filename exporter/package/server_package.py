"""Package a bundle for a server: a model repository of Triton, a container, or a function of a cloud."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ..publish.staging import staged
from .packager import SUMS_FILE, Packaged, copy_license, write_sums

ServerKind = Literal["triton", "container", "lambda"]
"""What `headway package --for` has beside apps."""


def package_for_server(bundle: Path, kind: ServerKind, out: Path, *, force: bool = False) -> Packaged:
    """Write the package at `out`, completely or not at all.

    Raise UsageError where the bundle does not run there, SourceError where one of its files is missing or changed.
    """
    with staged(out, force=force, marker=SUMS_FILE) as staging:
        _WRITERS[kind](bundle, staging)
        files = write_sums(staging)
    return Packaged(out, files)


def _write_triton(bundle: Path, out: Path) -> None:
    from .triton.repository import plan_of, write_repository

    plan = plan_of(bundle.resolve().name, bundle)
    write_repository(plan, copy_license(bundle, plan.manifest, out), out)


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
