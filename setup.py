"""Builds the CPU kernels with the package. Without a C++ compiler everything else is installed, and this is said once."""

import runpy
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

kernels = runpy.run_path(str(Path(__file__).parent / "kernels" / "cpu" / "build.py"))


class BuildKernels(build_ext):
    """The library is no Python module: it keeps its own name, and one build serves every Python."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")[:-1], kernels["LIBRARY"]))

    def build_extension(self, ext: Extension) -> None:
        try:
            kernels["build"](Path(self.get_ext_fullpath(ext.name)))
        except RuntimeError as error:
            self.warn(f"headway is installed without its CPU kernels: {error}")


ROOMS = ("exporter", "kernels", "calibration")
"""Top-level folders that are packages below `headway`."""

packages = ["headway", *(f"headway.{name}" for name in find_packages("headway"))]
for room in ROOMS:
    packages += [f"headway.{room}", *(f"headway.{room}.{name}" for name in find_packages(room))]

setup(
    packages=packages,
    ext_modules=[Extension("headway.kernels.cpu.library", sources=[], optional=True)],
    cmdclass={"build_ext": BuildKernels},
)
