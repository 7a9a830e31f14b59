"""Headway: makes a trained Transformer deployable, and proves that it still computes the same."""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Bundle", "__version__"]

if TYPE_CHECKING:
    from .bundle import Bundle


def __getattr__(name: str) -> object:
    # Loaded on first use: `import headway` alone must not pay for onnxruntime.
    if name == "Bundle":
        from .bundle import Bundle

        return Bundle
    if name == "kernels":
        import_module("headway.kernels.cpu")
        return import_module("headway.kernels")
    raise AttributeError(f"module 'headway' has no attribute {name!r}")
