"""The old place of `headway.bundle`, `headway.manifest` and `headway.text`."""

from ..moved import moved

__getattr__ = moved(__name__, "headway.manifest", "headway.text", "headway.bundle")
