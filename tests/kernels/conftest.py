"""The fixture of all tests of kernels."""

from tests.support.triton_process import interpreted

__all__ = ["interpreted"]
