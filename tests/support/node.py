"""Node, the packages that `make test` installs for it, and exports that are compared in it on few lines."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from headway.exporter.targets.web.page_tokenizer import compare_in_javascript

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "tests" / "web" / "node_modules"
FEW = 300


def missing_node() -> str | None:
    if shutil.which("node") is None:
        return "node is not installed"
    return None if (PACKAGES / ".package-lock.json").is_file() else "npm has not installed tests/web (make test does)"


needs_node = pytest.mark.skipif(missing_node() is not None, reason=str(missing_node()))


@contextmanager
def node_with_packages() -> Iterator[None]:
    """Let Node find what `make test` has installed. Exports compare fewer lines: tests of token ids compare all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NODE_PATH", str(PACKAGES))
        patch.setattr(
            "headway.exporter.targets.web.target.compare_in_javascript", partial(compare_in_javascript, count=FEW)
        )
        yield
