"""The fixture of all tests of CPU operators."""

from tests.support.cpu_kernels import isa

__all__ = ["isa"]
