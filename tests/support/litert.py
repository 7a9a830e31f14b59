"""Whether LiteRT and its converter are here."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from headway.exporter.targets.phones import litert

PYTHON = Path(__file__).parents[2] / ".cache" / "litert" / "bin" / "python"
needed = pytest.mark.skipif(
    find_spec("ai_edge_litert") is None or (litert.converter() is None and not PYTHON.is_file()),
    reason="needs ai-edge-litert (extra litert) and the converter's environment (make litert)",
)
