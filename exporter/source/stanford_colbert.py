"""Read what a checkpoint of Stanford's ColBERT says beside its weights. sentence-transformers loads it, and is the reference.

Its encoder and its projection lie in one file, and its settings in `artifact.metadata`.
Source: the settings of colbert-ai, https://github.com/stanford-futuredata/ColBERT.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import SourceError
from ...json_file import read_json
from .config_keys import asks

ARCHITECTURE = "HF_ColBERT"
METADATA = "artifact.metadata"
PROJECTION = "linear.weight"
"""The tensor that makes a token's vector of its hidden state."""

_FOLLOWED = (
    "query_token_id",
    "doc_token_id",
    "query_maxlen",
    "doc_maxlen",
    "attend_to_mask_tokens",
    "mask_punctuation",
)
_FIXED = {"similarity": "cosine", "interaction": "colbert"}
"""Settings with the one value that its library reads, and bundles follow."""

_RUNS = frozenset(
    [
        "overwrite",
        "root",
        "experiment",
        "index_root",
        "name",
        "rank",
        "nranks",
        "amp",
        "total_visible_gpus",
        "gpus",
        "avoid_fork_if_possible",
        "checkpoint",
        "triples",
        "collection",
        "queries",
        "index_name",
        "bsize",
        "accumsteps",
        "lr",
        "maxsteps",
        "save_every",
        "resume",
        "resume_optimizer",
        "warmup",
        "warmup_bert",
        "nway",
        "use_ib_negatives",
        "reranker",
        "distillation_alpha",
        "ignore_scores",
        "model_name",
        "index_path",
        "index_bsize",
        "nbits",
        "kmeans_niters",
        "ncells",
        "centroid_score_threshold",
        "ndocs",
        "load_index_with_mmap",
        "query_token",
        "doc_token",
        "meta",
        "config",
        "dim",
    ]
)
"""Settings of training runs, indexes and searches, which no vector depends on; and the width, which the projection has."""


def is_stanford_colbert(config: Mapping[str, Any]) -> bool:
    """Return whether a config is that of a checkpoint of Stanford's ColBERT."""
    names = config.get("architectures")
    return names == ARCHITECTURE or (isinstance(names, list) and ARCHITECTURE in names)


def check_metadata(directory: Path) -> None:
    """Raise SourceError naming a setting beside the weights that a bundle would not follow."""
    path = directory / METADATA
    if not path.is_file():
        return
    for name, value in read_json(path).items():
        if name in _FOLLOWED or name in _RUNS or not asks(value) or value == _FIXED.get(name):
            continue
        known = f"and only {_FIXED[name]!r} is read" if name in _FIXED else "and nothing would follow this setting"
        raise SourceError(
            f"{path}: {name} is {str(value)[:60]!r}, {known}: correct it, delete it if it is only a note, or give the model as "
            "module:callable"
        )
