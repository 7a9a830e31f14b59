"""Observe activations on a corpus that is read in shards, here or on a cluster, in place of the sample of the data."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ...calibration.corpus import parts_of
from ...calibration.corpus_shards import Corpus, open_corpus
from ...calibration.observe import Observations
from ...calibration.session import Session, save_up_to
from ...calibration.shard_sums import Counting, ShardSums, batches_of
from ...calibration.shards_here import count_here
from ...errors import UsageError
from ...scratch import scratch
from .job import Job
from .samples import check_text

ADDRESS = "RAY_ADDRESS"
"""The variable that says which cluster is meant, as Ray has it."""


def observe_corpus(job: Job, values: Sequence[str], *, histograms: bool) -> Observations:
    """Observe values with their second moments on the recipe's shards, but for the texts that are held out.

    UsageError where the corpus cannot be read or hardly anything of it is known to the tokenizer, TargetError where no cluster answers,
    SourceError where an activation is NaN or infinite.
    """
    given, settings = job.given, job.given.recipe.calibration
    held_out = [*given.quality.texts, *(given.choice.texts if given.choice is not None else [])]
    corpus = open_corpus(settings.shards, given.recipe.column, left_out=parts_of(held_out))
    rows = next((found for number in range(len(corpus.shards)) if (found := corpus.texts(number))), None)
    if rows is None:
        raise UsageError(f"{settings.shards[0]}: holds no text but what is held out to judge by")
    check_text(job.encoder, list(batches_of(job.encoder, rows)))
    counting = Counting(tuple(values), frozenset(values), histograms)
    total = _count(job, corpus, counting)
    return Observations(
        given.source_fingerprint,
        total.fingerprint(),
        given.seed,
        total.sums.samples,
        total.sums.tokens,
        total.sums.results(),
    )


def _count(job: Job, corpus: Corpus, counting: Counting) -> ShardSums:
    settings, step = job.given.recipe.calibration, job.given.step
    count = len(corpus.shards)
    with scratch() as folder:
        graph = Path(folder) / "model.onnx"
        readers = save_up_to(job.outcome.model, counting.names, graph)
        if settings.workers == "ray":
            if find_spec("ray") is None:
                raise UsageError(
                    "calibration.workers: ray needs Ray, which is not installed: pip install 'headway[search]'"
                )
            from ...calibration.shards_on_ray import Sent, count_on_ray

            weights = np.fromfile(graph.with_name(f"{graph.name}.data"), np.uint8)
            sent = Sent.of(graph, weights, readers, job.encoder, corpus, counting)
            address = os.environ.get(ADDRESS, "local")
            return count_on_ray(address, sent, weights, lambda at: step("observe the corpus", of=count, at=at))
        session = Session(graph, counting.names, readers)
        return count_here(
            session, job.encoder, corpus, counting, settings.workers, lambda: step("observe the corpus", of=count)
        )
