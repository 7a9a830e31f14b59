"""What serves needs the extra."""

import pytest

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
