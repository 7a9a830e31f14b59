"""The list of public names for the page of the Python API. mkdocstrings writes what stands below each."""

import headway

from . import places

FIRST = (
    "open",
    "Bundle",
    "Manifest",
    "export",
    "compress",
    "inspect",
    "verify",
    "bench",
    "gate",
    "report",
    "Exported",
    "Recipe",
)
"""The order in which a reader needs them; other public names follow."""

_NO_PAGE = ("__version__", "errors", "kernels")


def public_names() -> list[str]:
    """Return the public names of the package, as `headway.__all__` lists them."""
    names = [name for name in FIRST if name in headway.__all__]
    return names + sorted(name for name in headway.__all__ if name not in FIRST and name not in _NO_PAGE)


def reference() -> str:
    """Return one mkdocstrings directive per public name."""
    return "\n\n".join(f"::: headway.{name}" for name in public_names())


def errors() -> str:
    """Return the directive for the module of errors."""
    return f"::: {places.ERRORS.split(':')[0]}"
