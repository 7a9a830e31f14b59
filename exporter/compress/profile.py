"""Measure what heads, neurons and ranks of a source cost."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...calibration.corpus import check_column, lines_or_builtin
from ...errors import UsageError
from ..capture.capture import capture_canonical
from ..source.tokenizer import source_tokenizer
from ..targets.ort.target import SPEC
from .latency import measure_table
from .latency_table import LatencyTable
from .stopwatch import Workload


def profile_model(
    spec: str,
    *,
    task: str | None,
    data: Path | None,
    column: str | None = None,
    shapes: list[tuple[int, int]],
    threads: int,
    refresh: bool,
    allow_pickle: bool = False,
    on_step: Callable[..., None] = lambda *_, **__: None,
) -> LatencyTable:
    """Return the latency table of a source on this machine, at `shapes` or at the lengths of the text.

    Raises SourceError and UsageError as an export does, and UsageError where a shape is longer than the model takes.
    """
    check_column(column, data)
    on_step("capture the graph")
    source, model = capture_canonical(spec, task=task, allow_pickle=allow_pickle)
    widest = max((n for _, n in shapes), default=0)
    if widest > source.positions:
        raise UsageError(f"a batch of {widest} tokens is longer than the {source.positions} tokens this model takes")
    if not shapes:
        tokenizer = source_tokenizer(source)
        lines = lines_or_builtin(data, column)
        lengths = [len(ids) for ids in tokenizer(lines, truncation=True, max_length=source.longest)["input_ids"]]
    workload = Workload(tuple(shapes), threads) if shapes else Workload.of(np.array(lengths), threads=threads)
    return measure_table(model, workload, SPEC, refresh=refresh, on_level=on_step)
