"""The benchmark of the search: a search that was stopped and went on took the time of all its runs."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import search as module


def test_minutes_are_those_of_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: Counter[str] = Counter()
    judge: Any = SimpleNamespace(task=SimpleNamespace(directory=tmp_path), mb=10.0)
    front = SimpleNamespace(bundles=[], trials={"stopped": 3}, seconds=1800.0)
    monkeypatch.setattr(module, "crews_for", lambda request, *_, **__: [(request, None)])
    monkeypatch.setattr(module, "search", lambda *_: ran.update(["search"]))
    monkeypatch.setattr(module, "read_front", lambda _: front)
    found = module.searched(judge, tmp_path / "text.txt", tmp_path / "out", 30.0, 1, 0, random=False)
    assert ran["search"] == 1 and found["minutes"] == 30.0 and found["trials"] == {"stopped": 3}
