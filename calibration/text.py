"""The old place of `headway.calibration.corpus`."""

from ..moved import moved

__getattr__ = moved(__name__, "headway.calibration.corpus")
