"""The old place of `headway.errors`."""

from ..moved import moved

__getattr__ = moved(__name__, "headway.errors")
