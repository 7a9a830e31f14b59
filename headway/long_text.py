"""Cut a text that is far longer than a model takes before it is tokenized: the tokens that are kept are the same."""

from typing import Any

_PER_TOKEN = 16
"""Characters of a first attempt for each token that is needed."""
_MARGIN = 1024
"""Tokens beyond the limit that a part must have: what a cut changes at its end must not reach those that are kept."""
_KEPT = 128
"""Tokens beyond the limit that are kept: a word that is cut has fewer."""
_GROWTH = 8


def is_long(text: str, max_length: int) -> bool:
    """Return True for a text that is better cut before it is tokenized."""
    return len(text) > 2 * _PER_TOKEN * (max_length + _MARGIN)


def shorten(tokenizer: Any, text: str, max_length: int) -> str:
    """Return `text`, or the beginning of a long one, whose first `max_length` tokens are those of the whole.

    `tokenizer` does not truncate. One that does reads a text to its end first, and then makes an object of each further part,
    with every other part in it: a few megabytes would take all memory.
    """
    needed = max_length + _MARGIN
    size = _PER_TOKEN * needed
    while len(text) > 2 * size:
        encoding = tokenizer.encode(text[: _end_of_word(text, size)], add_special_tokens=False)
        if len(encoding.ids) >= needed:
            return text[: max(end for _, end in encoding.offsets[: max_length + _KEPT])]
        size *= _GROWTH
    return text


def _end_of_word(text: str, size: int) -> int:
    """Return where to cut: before the last blank in the last quarter, or at `size` where there is none."""
    return next((i for i in range(size, size - size // 4, -1) if text[i].isspace()), size)
