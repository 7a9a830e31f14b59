"""Say what modules of sentence-transformers compute in operators that can be traced, where their own code has loops or training in it."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

Features = dict[str, Any]


def apply_module(module: Any, features: Features, most_active: int | None) -> Features:
    """Return the features that a module leaves. `most_active`: how many dimensions of a sparse embedding may differ from zero."""
    traced = _TRACEABLE.get(type(module).__name__)
    if traced is None:
        result: Features = module(features)
        return result
    return {**features, **traced(module, features, most_active)}


def strongest(embedding: torch.Tensor, count: int) -> torch.Tensor:
    """Return embeddings `[batch, dimensions]` with zeros but for the `count` largest absolute values of each."""
    indices = torch.topk(embedding.abs(), min(count, embedding.shape[-1]), dim=-1).indices
    return torch.zeros_like(embedding).scatter(-1, indices, embedding.gather(-1, indices))


def _splade(module: Any, features: Features, most_active: int | None) -> Features:
    """Pool the logits of a masked language model over tokens: a weight for each entry of the vocabulary."""
    logits, mask = features["token_embeddings"], features["attention_mask"]
    weights = torch.log1p(torch.relu(logits * mask.to(logits.dtype).unsqueeze(-1)))
    if module.activation_function == "log1p_relu":
        weights = torch.log1p(weights)
    pooled = weights.amax(dim=1) if module.pooling_strategy == "max" else weights.sum(dim=1)
    return {"sentence_embedding": pooled}


def _sparse_codes(module: Any, features: Features, most_active: int | None) -> Features:
    """Return the strongest latents of a sparse autoencoder, without what only its training needs."""
    prepared, _ = module.prepare(features["sentence_embedding"])
    latents = module.encode_pre_act(prepared)
    top = torch.topk(latents, most_active or module.k, dim=-1)
    return {"sentence_embedding": torch.relu(torch.zeros_like(latents).scatter(-1, top.indices, top.values))}


def _static(module: Any, features: Features, most_active: int | None) -> Features:
    """Return the mean of the rows that ids look up; zeros for a text without a token."""
    mask = features["attention_mask"].to(module.embedding.weight.dtype).unsqueeze(-1)
    rows = torch.nn.functional.embedding(features["input_ids"], module.embedding.weight)
    return {"sentence_embedding": (rows * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)}


def _sparse_static(module: Any, features: Features, most_active: int | None) -> Features:
    """Return the weight of each entry of the vocabulary that stands in a text."""
    ids, weight = features["input_ids"], module.weight
    there = features["attention_mask"].to(weight.dtype)
    present = torch.zeros(ids.shape[0], weight.shape[0], dtype=weight.dtype).scatter_reduce(
        1, ids, there, reduce="amax"
    )
    return {"sentence_embedding": present * weight}


def _every_token(module: Any, features: Features, most_active: int | None) -> Features:
    """Leave the mask as it is: which tokens count depends on what the text is, and the bundle's manifest says it."""
    return {}


_TRACEABLE: Mapping[str, Callable[[Any, Features, int | None], Features]] = {
    "SpladePooling": _splade,
    "SparseAutoEncoder": _sparse_codes,
    "MultiVectorMask": _every_token,
    "StaticEmbedding": _static,
    "SparseStaticEmbedding": _sparse_static,
}
