"""Observe a model's activations on text: ranges, histograms, channels, second moments and samples, in one pass.

The graph runs in ONNX Runtime, texts of similar length together. What is observed is counted batch by batch and freed, so
memory is bounded. Every statistic is exact: a sum of integers (`histogram`, `moments`) or chosen by the texts (`sample`).
Results therefore do not depend on batch size, order, padding or the number of workers, as long as the runtime gives a text the
same activations in a batch as alone. This is checked on the way; where it does not hold, texts run alone (`session`).
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import onnx_ir as ir

from ..errors import SourceError, UsageError
from .batches import Batch
from .feed import Feed, Feeds, portions
from .session import Session
from .statistics import Observation, Observations
from .sums import NotFinite, Sums

__all__ = ["Observation", "Observations", "Sums", "gather", "observe"]


def observe(
    model: ir.Model,
    batches: Iterable[Batch | Feeds],
    values: Sequence[str],
    *,
    moments: Sequence[str] = (),
    histograms: bool = True,
    workers: int = 1,
    source: str,
    text: str,
    seed: int = 0,
    on_batch: Callable[[], None] = lambda: None,
) -> Observations:
    """Run a canonical model over the text once and observe `values`; of those in `moments` also second moments and a sample.

    Without `histograms` only extremes are kept: min-max ranges need no more, and it takes a third of the time off.
    `batches` may be a generator: they are taken one by one. `workers` threads share the graph and merge what they counted.
    `source` and `text` are fingerprints. Raises UsageError where there is no text or a value is not in the graph, and
    SourceError naming the value and the text where an activation is NaN or infinite.
    """
    sums = gather(model, batches, values, moments=moments, histograms=histograms, workers=workers, on_batch=on_batch)
    if not sums.samples:
        raise UsageError("the calibration text is empty")
    return Observations(source, text, seed, sums.samples, sums.tokens, sums.results())


def gather(
    model: ir.Model,
    batches: Iterable[Batch | Feeds],
    values: Sequence[str],
    *,
    moments: Sequence[str] = (),
    histograms: bool = True,
    workers: int = 1,
    on_batch: Callable[[], None] = lambda: None,
) -> Sums:
    """Return what `observe` counts as sums, which merge exactly and in any order across processes or machines."""
    session = Session.of(model, list(dict.fromkeys([*values, *moments])))
    feed = Feed(batches)
    parts = [Sums(session.names, frozenset(moments), counted=histograms) for _ in range(max(workers, 1))]

    def work(sums: Sums) -> None:
        try:
            count(session, feed, sums, on_batch)
        except BaseException:
            feed.stop()
            raise

    try:
        if len(parts) == 1:
            work(parts[0])
        else:
            with ThreadPoolExecutor(len(parts)) as pool:
                for job in [pool.submit(work, p) for p in parts]:
                    job.result()
    except NotFinite as error:
        raise refusal(error, session, f"text {error.text.row} of the calibration text") from None
    first, *others = parts
    for other in others:
        first.merge(other)
    return first


def count(session: Session, feed: Feed, sums: Sums, on_batch: Callable[[], None] = lambda: None) -> None:
    """Add the activations of all texts of a feed to `sums`. NotFinite where one is NaN or infinite."""
    while (window := feed.next(on_batch)) is not None:
        for texts in portions(window):
            for run_texts, mask, activations in session.run(texts):
                sums.add(run_texts, mask, activations)


def refusal(error: NotFinite, session: Session, where: str) -> SourceError:
    """Return what is said of an activation that is NaN or infinite; `where` names its text."""
    return SourceError(
        f"value {error.name!r}{session.readers[error.name]} is {error.what} on {where} ({len(error.text)} tokens): the model cannot be "
        "calibrated on it. Is its checkpoint intact? If only this text does it, leave it out"
    )
