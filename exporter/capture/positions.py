"""Find out how many tokens a loaded model takes, by running it. Imports torch when it runs."""

from dataclasses import dataclass
from typing import Any

import torch

from ..source.source import Source

_SHORT, _LONGER = 3, 4


def probed_positions(wrapped: Any, source: Source) -> int | None:
    """Return for how many tokens the position embeddings of a model have rows; None where it has none, or does not run.

    Position embeddings are those whose largest index grows with the text by one. Some families begin to count behind the
    padding id, so that the last rows are not there for tokens: the largest index of a short text tells how many.
    Distances between tokens grow so too in short texts. In long ones those of MPNet and T5 share rows, which then are no limit.
    """
    first, second = (_lookups(wrapped, source, length) for length in (_SHORT, _LONGER))
    limits = []
    for name, short in first.items():
        if name in second and second[name].largest == short.largest + 1:
            limit = short.rows - (short.largest - (_SHORT - 1))
            if short.by_token or _is_filled(wrapped, source, name, limit):
                limits.append(limit)
    return min(limits) if limits else None


@dataclass(frozen=True)
class _Lookup:
    """Rows of an embedding, the largest index that was looked up, and whether there was one index for each token."""

    rows: int
    largest: int
    by_token: bool


def _is_filled(wrapped: Any, source: Source, name: str, length: int) -> bool:
    """Return whether a text of `length` tokens looks up the last row of an embedding."""
    found = _lookups(wrapped, source, length).get(name)
    return found is not None and found.largest == found.rows - 1


def _lookups(wrapped: Any, source: Source, length: int) -> dict[str, _Lookup]:
    """Return what each embedding of a model looks up that is run on one text, all of the same token."""
    token = _token(source)
    shape = (1, 2, length) if source.task == "multiple-choice" else (1, length)
    ids = torch.full(shape, token)
    seen: dict[str, _Lookup] = {}
    handles = []
    for name, module in wrapped.named_modules():
        if isinstance(module, torch.nn.Embedding):

            def look(module: Any, given: tuple, name: str = name) -> None:
                if given and given[0].numel():
                    by_token = given[0].numel() in (length, ids.numel())
                    seen[name] = _Lookup(module.weight.shape[0], int(given[0].max()), by_token)

            handles.append(module.register_forward_pre_hook(look))
    feeds = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    try:
        with torch.inference_mode():
            wrapped(*[feeds.get(name, torch.zeros_like(ids)) for name in wrapped.names])
    except Exception:  # whatever a model's own code raises: tracing meets it again and says so
        return {}
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _token(source: Source) -> int:
    """Return an id that is not padding, and small enough for any vocabulary."""
    padding = {source.config.get(name) for name in ("pad_token_id", "pad_index", "padding_idx")}
    return next(i for i in range(2, 6) if i not in padding)
