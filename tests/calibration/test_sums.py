"""Sums of several processes merge exactly."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import onnx_ir as ir

from headway.calibration.observe import gather
from headway.calibration.statistics import Observations
from headway.calibration.sums import Sums

from tests.support.observing import TEXTS, assert_equal, batches, watch
from tests.support.variants import batch


def gather_part(path: str, parts: list[list[list[int]]], values: list[str]) -> Sums:
    """Return what one process counts."""
    return gather(ir.load(path), [batch(p) for p in parts], values, moments=values)


def test_processes_merge_exactly(classifier: ir.Model, values: list[str], tmp_path: Path) -> None:
    ir.save(classifier, tmp_path / "model.onnx")
    halves = [TEXTS[:30], TEXTS[30:]]
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        elsewhere = pool.submit(gather_part, str(tmp_path / "model.onnx"), [halves[1]], values)
        first = gather_part(str(tmp_path / "model.onnx"), [halves[0]], values)
        second = elsewhere.result()
    second.merge(first)
    merged = Observations("model", "text", 0, second.samples, second.tokens, second.results())
    assert_equal(watch(classifier, batches(8), values, moments=values), merged)
