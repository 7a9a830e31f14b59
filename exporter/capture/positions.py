"""Find out how many tokens a loaded model takes, by running it. Imports torch when it runs."""

from typing import Any

import torch

from ..source.source import Source

_SHORT, _LONGER = 3, 4


def probed_positions(wrapped: Any, source: Source) -> int | None:
    """Return for how many tokens the position embeddings of a model have rows; None where it has none, or does not run.

    Position embeddings are those whose largest index grows with the text by one. Some families begin to count behind the
    padding id, so that the last rows are not there for tokens: the largest index of a short text tells how many.
    """
    first, second = (_largest_indices(wrapped, source, length) for length in (_SHORT, _LONGER))
    limits = [
        rows - (index - (_SHORT - 1))
        for name, (rows, index) in first.items()
        if name in second and second[name][1] == index + 1
    ]
    return min(limits) if limits else None


def _largest_indices(wrapped: Any, source: Source, length: int) -> dict[str, tuple[int, int]]:
    """Return rows and the largest index looked up of each embedding of a model that is run on one text, all of the same token."""
    token = _token(source)
    seen: dict[str, tuple[int, int]] = {}
    handles = []
    for name, module in wrapped.named_modules():
        if isinstance(module, torch.nn.Embedding):

            def look(module: Any, given: tuple, name: str = name) -> None:
                if given and given[0].numel():
                    seen[name] = (module.weight.shape[0], int(given[0].max()))

            handles.append(module.register_forward_pre_hook(look))
    shape = (1, 2, length) if source.task == "multiple-choice" else (1, length)
    ids = torch.full(shape, token)
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
