"""Make a trained Transformer deployable, and prove that it still computes the same.

What production needs (`open`, `Bundle`, `Manifest`, `errors`) runs on onnxruntime, tokenizers and numpy. The functions that
make and judge bundles come with `pip install 'headway[export]'`. Everything is imported on first use.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from . import errors
    from .bundle import Bundle
    from .exporter.api import Recipe, bench, compress, export, gate, inspect, report, verify
    from .manifest import Manifest

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read by ONNX Runtime when it is imported, which is later

__version__ = "0.1.0"
__all__ = [
    "Bundle",
    "Manifest",
    "Recipe",
    "__version__",
    "bench",
    "compress",
    "errors",
    "export",
    "gate",
    "inspect",
    "open",
    "report",
    "verify",
]

_DEPLOY = {"Bundle": "headway.bundle", "Manifest": "headway.manifest"}
_EXPORT = frozenset({"Recipe", "bench", "compress", "export", "gate", "inspect", "report", "verify"})


def open(
    path: "str | Path",
    *,
    threads: int | None = None,
    providers: "Sequence[str] | None" = None,
    check: bool = True,
) -> "Bundle":
    """Open the bundle in the directory `path`; the same as `Bundle.open`.

    `threads` is the size of the runtime's thread pool. `providers` replaces the target's own ONNX Runtime providers.
    What is opened is compared with its sha256 meanwhile; `check=False` leaves that out, for those who have checked.
    Raises SourceError where a file is missing, changed or not the bundle's own, TargetError where the target cannot run here,
    UsageError where `path` is no path or `threads` less than 1.
    """
    from .bundle import Bundle

    return Bundle.open(path, threads=threads, providers=providers, check=check)


def __getattr__(name: str) -> object:
    if name in _DEPLOY:
        return getattr(import_module(_DEPLOY[name]), name)
    if name in _EXPORT:
        return getattr(import_module("headway.exporter.api"), name)  # names the extra where it is missing
    if name == "errors":
        return import_module("headway.errors")
    if name == "kernels":
        import_module("headway.kernels.cpu")
        return import_module("headway.kernels")
    raise AttributeError(f"module 'headway' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
