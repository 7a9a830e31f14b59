"""Refuse causal classifiers whose last token would be another in a batch: they find it by the id of padding."""

import inspect
from typing import Any

from ...errors import SourceError
from ..source.source import Source
from ..source.tokenizer import source_tokenizer


def check_last_token(model: Any, source: Source) -> None:
    """Raise SourceError where a model looks for padding by an id that its tokenizer does not pad with.

    Such classes read the answer at the last token that is not `pad_token_id`, whatever the attention mask says.
    """
    if source.task != "text-classification" or "pad_token_id" not in _code_of(model):
        return
    tokenizer = source_tokenizer(source)
    token = tokenizer.pad_token if tokenizer.pad_token is not None else tokenizer.eos_token
    padding = tokenizer.convert_tokens_to_ids(token) if token is not None else None
    known = model.config.get_text_config().pad_token_id
    if padding is None or known == padding:
        return
    told = "no pad_token_id" if known is None else f"pad_token_id = {known}"
    raise SourceError(
        f"{source.place}: {type(model).__name__} reads its answer at the last token that is not padding, config.json has "
        f"{told}, and the tokenizer pads with {token!r}, {padding}: texts in a batch would get other answers than alone. Set "
        f"pad_token_id to {padding}, or the tokenizer's pad_token to the one that the model was trained with"
    )


def _code_of(model: Any) -> str:
    try:
        return inspect.getsource(type(model).forward)
    except (OSError, TypeError):  # a forward that was made at run time
        return ""
