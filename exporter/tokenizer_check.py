"""The old place of `headway.exporter.tokenizer.check`."""

from ..moved import moved

__getattr__ = moved(__name__, "headway.exporter.tokenizer.check")
