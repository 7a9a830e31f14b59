"""Headway: makes a trained Transformer deployable, and proves that it still computes the same."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Bundle", "__version__"]

if TYPE_CHECKING:
    from headway.exporter.bundle import Bundle


def __getattr__(name: str) -> object:
    # Loaded on first use: `import headway` alone must not pay for onnxruntime.
    if name == "Bundle":
        from headway.exporter.bundle import Bundle

        return Bundle
    raise AttributeError(f"module 'headway' has no attribute {name!r}")
