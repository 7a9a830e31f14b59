"""One measurement at a time on a machine."""

import threading
import time
from pathlib import Path

import pytest

from headway.exporter.search import clock
from headway.exporter.search.clock import alone


def test_a_measurement_waits_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock.tempfile, "gettempdir", lambda: str(tmp_path))
    order: list[str] = []

    def second() -> None:
        with alone():
            order.append("second")

    with alone():
        other = threading.Thread(target=second)
        other.start()
        time.sleep(0.1)
        order.append("first")
    other.join()
    assert order == ["first", "second"]
