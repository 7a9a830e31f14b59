"""Remember in the work folder what a job learns: evidence, orders, repairs and trainings. Imports torch.

A name is the digest of all that a thing depends on: the model's nodes and weights, the calibration data, and what is asked. So what
is recalled equals what would be made.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from ...calibration.corpus import fingerprint
from ..graph.anatomy import read_anatomy
from ..graph.edit import constant
from ..graph.torch_graph import TorchGraph
from ..passes.cuts import set_array
from .evidence import Evidence, collect
from .job import Job
from .recover import Recovery
from .repair import repair
from .search import Remember
from .work import digest_of_model, key_of

_ERROR = "error of "
_DONE = "training: "
_PARTS = ("inputs", "mean", "outputs")


def learn(job: Job, model: ir.Model) -> Evidence:
    """Return what matters in a model as it is."""
    given = job.given

    def make() -> Mapping[str, np.ndarray]:
        evidence = collect(
            TorchGraph(model),
            read_anatomy(model),
            job.batches,
            source=given.source_fingerprint,
            text=given.text_fingerprint,
            labels=given.labels,
            scoring=given.scoring,
            seed=given.seed,
            on_batch=lambda: given.step("importances", of=len(job.batches)),
        )
        flat = {f"{part} {name}": array for part in _PARTS for name, array in getattr(evidence, part).items()}
        return flat | {"seen": np.array([evidence.samples, evidence.tokens])}

    found = given.work.arrays("evidence", key_of(job.basis, digest_of_model(model)), make)
    samples, tokens = map(int, found["seen"])
    parts: dict[str, dict[str, np.ndarray]] = {part: {} for part in _PARTS}
    for name, array in found.items():
        part, _, value = name.partition(" ")
        if part in parts:
            parts[part][value] = array
    evidence = Evidence(
        given.source_fingerprint, given.text_fingerprint, given.seed, samples, tokens, given.labels is not None, **parts
    )
    job.learned.evidence = evidence.describe()
    return evidence


def remember(job: Job, model: ir.Model) -> Remember:
    """Return what recalls arrays that were computed from a model and its evidence, by name."""
    basis, digest = job.basis, digest_of_model(model)
    return lambda name, make: job.given.work.arrays("order", key_of(basis, digest, name), make)


def repaired(job: Job, model: ir.Model, method: Literal["projection", "scale"] = "projection") -> dict[str, float]:
    """Refit the remaining weights of a model in place, as `repair.repair` does; return squared error before ÷ after by site."""

    def make() -> Mapping[str, np.ndarray]:
        before = _tensors(model)
        gains = repair(
            TorchGraph(job.source_model),
            model,
            job.batches,
            method=method,
            on_site=lambda site: job.given.step(f"repair, {site}", of=0),
        )
        return _changed(model, before) | {f"{_ERROR}{site}": np.array(gain) for site, gain in gains.items()}

    key = key_of(job.basis, digest_of_model(job.source_model), digest_of_model(model), method)
    found = job.given.work.arrays("repair", key, make)
    gains = {}
    for name, array in found.items():
        if name.startswith(_ERROR):
            gains[name.removeprefix(_ERROR)] = float(array)
        else:
            set_array(model.graph.initializers[name], array)
    return gains


def recovered(job: Job, model: ir.Model, asked: Any, train: Callable[[ir.Model], Recovery]) -> Recovery:
    """Train a model in place by `train`, and return what the training did. `asked` are plain values that say for how long."""

    def make() -> Mapping[str, np.ndarray]:
        before = _tensors(model)
        done = train(model)
        seen = {
            "losses": np.array(done.losses).reshape(-1, 2),
            "texts": np.array(done.texts),
            "seconds": np.array(done.seconds),
        }
        return _changed(model, before) | {f"{_DONE}{name}": array for name, array in seen.items()}

    texts = fingerprint(job.given.texts)
    key = key_of(job.basis, texts, digest_of_model(job.source_model), digest_of_model(model), asked)
    found = job.given.work.arrays("recover", key, make)
    for name, array in found.items():
        if not name.startswith(_DONE):
            set_array(model.graph.initializers[name], array)
    losses = [(float(at), float(loss)) for at, loss in found[f"{_DONE}losses"]]
    return Recovery(losses, int(found[f"{_DONE}texts"]), float(found[f"{_DONE}seconds"]))


def _tensors(model: ir.Model) -> dict[str, object]:
    return {name: value.const_value for name, value in model.graph.initializers.items()}


def _changed(model: ir.Model, before: Mapping[str, object]) -> dict[str, np.ndarray]:
    """Return the arrays of the initializers that were set since."""
    set_since = (v for n, v in model.graph.initializers.items() if v.const_value is not before[n])
    return {str(v.name): a for v in set_since if (a := constant(v)) is not None}
