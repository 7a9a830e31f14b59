"""What distillation leaves beside a student: `fit_dense` of TinyBERT, which only training runs, and configs without a family."""

from typing import Any

from .....errors import SourceError
from ..checkpoint import Checkpoint

ORDER = 10
NAME = "a student with layers of its distillation (TinyBERT)"
MARKS = (".fit_dense.weight", "fit_dense.weight")

_NOTES = ("emb_size", "cell", "structure", "pre_trained", "training")
"""Settings that TinyBERT's published configs have, and nothing reads."""


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Drop the layers that map a student's states to its teacher's; name the family of a BERT whose config names none.

    SourceError where the config's notes contradict its sizes.
    """
    config: dict[str, Any] = dict(checkpoint.config)
    dropped = [n for n in checkpoint.state if _is_fit(n)]
    untyped = not config.get("model_type") and _is_bert(checkpoint)
    if not dropped and not untyped:
        return None
    sentences = []
    if dropped:
        sentences.append(f"{len(dropped)} tensors of fit_dense, which training alone runs, dropped")
    if untyped:
        sentences.append("config.json names no family; its tensors and sizes are BERT's")
        config["model_type"] = "bert"
    if config.get("emb_size") not in (None, config.get("hidden_size")):
        raise SourceError(
            f"{checkpoint.directory}: emb_size = {config['emb_size']} of config.json is not hidden_size = {config.get('hidden_size')}: "
            "correct the one that is wrong"
        )
    config = {name: value for name, value in config.items() if name not in _NOTES}
    return checkpoint.changed("; ".join(sentences), state=checkpoint.without(dropped), config=config)


def _is_fit(name: str) -> bool:
    return any(part in ("fit_dense", "fit_denses") for part in name.split("."))


def _is_bert(checkpoint: Checkpoint) -> bool:
    """Return whether tensors are BERT's. RoBERTa's have the same names and one token type, ELECTRA's a projection of embeddings."""
    names = checkpoint.state
    known = any(name.endswith("encoder.layer.0.attention.self.query.weight") for name in names)
    other = any(name.startswith(("roberta.", "electra.")) or "embeddings_project" in name for name in names)
    types = next((t.shape for n, t in names.items() if n.endswith("embeddings.token_type_embeddings.weight")), None)
    return known and not other and types is not None and types[0] == 2
