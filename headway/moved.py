"""Hand names on from an old import path to the new one, with a DeprecationWarning, for one release."""

import warnings
from collections.abc import Callable
from importlib import import_module


def moved(old: str, *places: str) -> Callable[[str], object]:
    """Return the `__getattr__` of the module `old`, whose public names now live in the modules `places`."""

    def __getattr__(name: str) -> object:
        for place in () if name.startswith("_") else places:
            module = import_module(place)
            if hasattr(module, name):
                warnings.warn(
                    f"{old} will go with the next release: import {name} from {place}", DeprecationWarning, stacklevel=2
                )
                return getattr(module, name)
        raise AttributeError(f"module {old!r} has no attribute {name!r}")

    return __getattr__
