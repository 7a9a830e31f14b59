"""Find the libraries that an installed package needs, at the versions that are installed: what was tried together."""

import importlib.metadata
from collections.abc import Iterable, Iterator

from ....errors import TargetError

RUNTIME = ("numpy", "onnxruntime", "rich", "tokenizers", "typer")
"""What Headway itself requires."""

SERVER = ("httptools", "orjson", "prometheus-client", "starlette", "uvicorn")
"""What its extra `serve` adds."""


def pinned(names: Iterable[str]) -> list[str]:
    """Return `name==version` of these packages and of everything that they need here, sorted by name.

    Raise TargetError for one that is not installed.
    """
    versions: dict[str, str] = {}
    waiting: list[tuple[str, tuple[str, ...]]] = [(name, ()) for name in names]
    while waiting:
        name, wanted = waiting.pop()
        if name in versions:
            continue
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise TargetError(
                f"{name} is not installed, which the package names by its version: pip install {name}"
            ) from error
        waiting += _needs(name, wanted)
    return [f"{name}=={version.partition('+')[0]}" for name, version in sorted(versions.items())]


def _needs(package: str, extras: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    for line in importlib.metadata.requires(package) or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(requirement.name), tuple(requirement.extras)
