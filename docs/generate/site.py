"""Hook of MkDocs: the plots of benchmarks as files of the site, and the package as mkdocstrings has to see it."""

import shutil
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
PLOTS = "benchmarks/plots"
_PARTS = ("calibration", "exporter", "kernels")
"""Folders beside `headway/` that are installed below it."""


def on_config(config: Any) -> Any:
    """Write the import namespace below `build/namespace`: the package's parts lie in several folders of the repository."""
    package = ROOT / "build" / "namespace" / "headway"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    for path in [*(ROOT / "headway").iterdir(), *(ROOT / part for part in _PARTS)]:
        (package / path.name).symlink_to(path)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add every plot in `benchmarks/results/` as `benchmarks/plots/NAME.png`."""
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.png")):
        files.append(File.generated(config, f"{PLOTS}/{path.name}", abs_src_path=str(path)))
    return files
