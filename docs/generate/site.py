"""Hook of MkDocs: the plots of benchmarks as files of the site, and the package as mkdocstrings has to see it."""

import shutil
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
PLOTS = "benchmarks/plots"
_PARTS = {"headway": "", "calibration": "calibration", "exporter": "exporter", "kernels": "kernels"}
"""Folders of the repository with where they are installed below the package."""


def on_startup(command: str, dirty: bool) -> None:
    """Write the import namespace below `build/namespace`: the package's parts lie in several folders of the repository.

    It must be there before plugins read their settings: mkdocstrings drops search paths that do not exist.
    """
    package = ROOT / "build" / "namespace" / "headway"
    shutil.rmtree(package, ignore_errors=True)
    for folder, below in _PARTS.items():
        for path in (ROOT / folder).rglob("*.py"):
            link = package / below / path.relative_to(ROOT / folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)  # files, since mkdocstrings does not look into linked folders


def on_files(files: Any, config: Any) -> Any:
    """Add every plot in `benchmarks/results/` as `benchmarks/plots/NAME.png`."""
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.png")):
        files.append(File.generated(config, f"{PLOTS}/{path.name}", abs_src_path=str(path)))
    return files
