"""Processes that measure: what they say is read, their errors are raised, and a crash keeps what was said before."""

import sys
from pathlib import Path

import pytest

from headway.errors import SourceError
from headway.exporter.export import Exported
from headway.exporter.validate import processes
from headway.exporter.validate.processes import RunnerCrash, run_block

from tests.support.simulated import crashing_worker


def test_a_block_is_measured_in_a_process_of_its_own(bert_bundle: Exported) -> None:
    block = run_block({"bundle": bert_bundle.path, "threads": 1, "texts": ["a text"], "rounds": 2})
    assert block.rounds.shape == (2, 1, 2, 2) and (block.rounds > 0).all()
    assert block.cold["total_ms"] > block.cold["start_ms"] > 0
    assert len(block.spins) == 2 and (block.rss_mb is None or block.rss_mb > 10)


def test_the_error_of_a_bundle_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such directory"):
        run_block({"bundle": tmp_path / "none", "threads": 1, "texts": ["a text"]})


def test_a_crash_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, crashing_worker()])
    with pytest.raises(RunnerCrash, match=r"its runner crashed .*SIGSEGV") as caught:
        run_block({"bundle": "bundle", "threads": 1, "texts": []})
    assert caught.value.block.rounds.shape == (1, 1, 2, 2) and caught.value.block.cold["total_ms"] == 10
