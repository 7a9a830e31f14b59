"""Read the head that SetFit trains on sentence embeddings: a pickle of scikit-learn, or of its own torch module, as one linear layer."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ...errors import SourceError
from ...json_file import read_json

HEAD_FILE = "model_head.pkl"
HEAD_CONFIG = "config_setfit.json"


@dataclass(frozen=True)
class SetFitHead:
    """A linear layer from embeddings to logits: `weight [classes, features]` and `bias [classes]`, float32.

    `normalize`: embeddings are scaled to length 1 first. `several`: a text may be of several classes, each judged by a sigmoid.
    """

    file: Path
    weight: np.ndarray
    bias: np.ndarray
    labels: tuple[str, ...]
    normalize: bool
    several: bool

    def settings(self) -> dict[str, Any]:
        """Return the settings by which transformers' configs name classes."""
        kind = "multi_label_classification" if self.several else "single_label_classification"
        return {
            "id2label": {str(i): label for i, label in enumerate(self.labels)},
            "label2id": {label: i for i, label in enumerate(self.labels)},
            "problem_type": kind,
        }


def read_head(directory: Path, *, allow_pickle: bool) -> SetFitHead | None:
    """Return the head of a SetFit directory; None where it has none.

    SourceError for a pickle that is not allowed, and for a head that is no linear layer.
    """
    path = directory / HEAD_FILE
    if not path.is_file():
        return None
    if not allow_pickle:
        raise SourceError(
            f"{path}: SetFit's head is a pickle, which can run code when it is loaded: pass `allow_pickle` (--allow-pickle) if you trust "
            "its author, or choose `task` (--task) sentence-embedding for the model without it"
        )
    config = read_json(directory / HEAD_CONFIG) if (directory / HEAD_CONFIG).is_file() else {}
    head = _loaded(path)
    weight, bias, classes, several = _linear(path, head)
    names = config.get("labels") or classes
    if not isinstance(names, list) or len(names) != len(weight):
        raise SourceError(
            f"{directory / HEAD_CONFIG}: labels: {len(weight)} names are expected, one for each class of the head"
        )
    normalize = bool(config.get("normalize_embeddings"))
    weight, bias = np.asarray(weight, np.float32), np.asarray(bias, np.float32)
    return SetFitHead(path, weight, bias, tuple(map(str, names)), normalize, several)


def _loaded(path: Path) -> Any:
    import joblib

    try:
        with _named_module():
            return joblib.load(path)
    except Exception as error:  # whatever a pickle raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(
            f"{path}: the head does not load ({reason}): save it with the versions that are installed here"
        ) from error


@contextmanager
def _named_module() -> Iterator[None]:
    """Give pickles of SetFit's own torch head a class to become, where SetFit is not installed."""
    import torch

    if "setfit" in sys.modules:
        yield
        return
    parent, child = ModuleType("setfit"), ModuleType("setfit.modeling")
    child.SetFitHead = type("SetFitHead", (torch.nn.Module,), {"__module__": "setfit.modeling"})  # type: ignore[attr-defined]
    parent.modeling = child  # type: ignore[attr-defined]
    sys.modules |= {"setfit": parent, "setfit.modeling": child}
    try:
        yield
    finally:
        del sys.modules["setfit"], sys.modules["setfit.modeling"]


def _linear(path: Path, head: Any) -> tuple[Any, Any, list[Any], bool]:
    """Return weight, bias, names of classes, and whether a text may have several. SourceError for other heads."""
    kind = type(head).__name__
    if kind == "SetFitHead":
        scale = 1 / (float(head.temperature) + float(head.eps))
        weight = head.linear.weight.detach().numpy().astype(np.float64) * scale
        bias = (
            np.zeros(len(weight))
            if head.linear.bias is None
            else head.linear.bias.detach().numpy().astype(np.float64) * scale
        )
        return weight, bias, list(range(len(weight))), bool(head.multitarget)
    if kind == "LogisticRegression":
        if len(head.classes_) > 2 and head.solver == "liblinear":
            raise SourceError(
                f"{path}: a LogisticRegression by liblinear of {len(head.classes_)} classes is no softmax: train it by lbfgs"
            )
        if len(head.classes_) == 2:  # one row of logits for the second class; the first has none
            weight = np.concatenate([np.zeros_like(head.coef_), head.coef_])
            return weight, np.array([0.0, head.intercept_[0]]), list(head.classes_), False
        return head.coef_, head.intercept_, list(head.classes_), False
    several = (kind == "OneVsRestClassifier" and head.multilabel_) or kind == "MultiOutputClassifier"
    if several and all(type(e).__name__ == "LogisticRegression" and len(e.classes_) == 2 for e in head.estimators_):
        weight = np.concatenate([e.coef_ for e in head.estimators_])
        return weight, np.concatenate([e.intercept_ for e in head.estimators_]), list(range(len(weight))), True
    raise SourceError(
        f"{path}: a head of the kind {kind} is no linear layer with a softmax or sigmoids: train a LogisticRegression, one-vs-rest or "
        "multi-output for several labels, or choose `task` (--task) sentence-embedding for the model without it"
    )
