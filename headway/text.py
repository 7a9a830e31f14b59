"""Turn text into token ids, exactly as the source's tokenizer does."""

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .errors import HeadwayWarning, SourceError, UsageError
from .long_text import is_long, shorten
from .manifest import TokenizerInfo
from .scripts import mostly_in

Text = str | tuple[str, str]

_STRIDE = 128
"""Most tokens of a context that neighboring windows have in common, as in the pipeline of transformers."""


@dataclass(frozen=True)
class _Window:
    """A later window of a context: the fields of an encoding that are read."""

    ids: list[int]
    type_ids: list[int]
    offsets: list[tuple[int, int]]
    sequence_ids: list[int | None]

    @classmethod
    def of(cls, window: Any, first: Any) -> "_Window":
        """Return a window with the token types of the `first`, by part: the library does not apply the template to later ones."""
        types = {part: kind for part, kind in zip(first.sequence_ids, first.type_ids, strict=True) if part is not None}
        parts = window.sequence_ids
        kinds = [k if p is None else types[p] for p, k in zip(parts, window.type_ids, strict=True)]
        return cls(window.ids, kinds, window.offsets, parts)


class TextEncoder:
    """Encode text with the `tokenizers` library, exactly as the source's tokenizer does. Any number of threads may use one.

    `tokenizer` cuts texts at the model's limit, and is never changed after it was opened. Other limits are set on a second
    one, by one thread at a time: the library keeps the limit in the tokenizer, where another thread would meet it.
    """

    def __init__(self, path: Path, info: TokenizerInfo):
        self.path = path
        self.info = info
        self.tokenizer = self._open()
        self.tokenizer.enable_truncation(info.max_length)
        self._other: Any = None
        self._told_of_outside = not info.scripts_gone
        self._lock = threading.Lock()

    def _open(self) -> Any:
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(self.path))
        except Exception as error:  # tokenizers raises plain Exception
            raise SourceError(f"{self.path}: not a tokenizer file ({error})") from error
        tokenizer.no_padding()
        return tokenizer

    def encode(self, texts: Sequence[Text], max_length: int | None = None) -> list[Any]:
        """Return one `tokenizers.Encoding` per text or pair, truncated to `max_length` tokens (default: the model's).

        UsageError names the first text that is none, or a limit that has no room for special tokens.
        """
        checked = checked_texts(texts)
        if not self._told_of_outside:
            self._tell_of_outside(checked)
        if max_length is None or max_length == self.info.max_length:
            return list(self.tokenizer.encode_batch(self._shortened(checked, self.info.max_length)))
        self._check_limit(max_length, is_pair=any(not isinstance(t, str) for t in checked))
        return self._encode_within(self._shortened(checked, max_length), max_length)

    def encode_pairs(self, pairs: Sequence[tuple[str, str]], max_length: int | None = None) -> list[Any]:
        """Return the encodings of pairs of which the first text alone is cut, to `max_length` tokens of both.

        UsageError where a second text leaves no room for the first.
        """
        checked = checked_pairs(pairs)
        limit = self.info.max_length if max_length is None else max_length
        self._check_limit(limit, is_pair=True)
        try:
            return self._encode_within(self._shortened(checked, limit), limit, strategy="only_first")
        except Exception as error:  # tokenizers raises plain Exception
            longest = max(checked, key=lambda pair: len(pair[1]))[1]
            raise UsageError(
                f"{longest[:60]!r} leaves no room for a text within {limit} tokens; give a shorter one"
            ) from error

    def windows(
        self, pairs: Sequence[tuple[str, str]], max_length: int | None = None, stride: int | None = None
    ) -> list[list[Any]]:
        """Return the encodings of each (question, context) that together read all of the context; each repeats the question.

        Neighbors have `stride` tokens of the context in common (default: 128, or half of `max_length` where that is less).
        UsageError where a question leaves no room.
        """
        limit = max_length or self.info.max_length
        wanted = min(limit // 2, _STRIDE) if stride is None else stride
        if not 0 <= wanted < limit:
            raise UsageError(f"stride is {wanted}; give at least 0, and less than the {limit} tokens of a window")
        wholes = self.encode(pairs, max_length)
        return [
            self._windows(pair, limit, wanted) if self.truncated(whole, limit) else [whole]
            for pair, whole in zip(pairs, wholes, strict=True)
        ]

    def _windows(self, pair: tuple[str, str], limit: int, stride: int) -> list[Any]:
        (question,) = self._encode_within(self._shortened([pair[0]], limit), limit)
        taken = len(question.ids) - self._special(is_pair=False) + self._special(is_pair=True)
        if self.truncated(question, limit) or taken >= limit:
            raise UsageError(
                f"a question leaves no room for its context within {limit} tokens: {pair[0][:60]!r}; ask a shorter one"
            )
        overlap = min(stride, (limit - taken) // 2)
        (first,) = self._encode_within([pair], limit, strategy="only_second", stride=overlap)
        return [first, *(_Window.of(window, first) for window in first.overflowing)]

    def truncated(self, encoding: Any, max_length: int | None = None) -> bool:
        """Return whether an encoding holds less than its whole text."""
        return len(encoding.ids) >= (max_length or self.info.max_length) and bool(encoding.overflowing)

    def _encode_within(self, texts: Sequence[Text], limit: int, **settings: Any) -> list[Any]:
        with self._lock:
            if self._other is None:
                self._other = self._open()
            self._other.enable_truncation(limit, **settings)
            return list(self._other.encode_batch(texts))

    def _tell_of_outside(self, texts: Sequence[Text]) -> None:
        """Warn, once, of a text that is mostly in a script whose tokens were trimmed away."""
        gone = self.info.scripts_gone
        for number, text in enumerate(texts):
            if any(mostly_in(part, gone) for part in ([text] if isinstance(text, str) else text)):
                self._told_of_outside = True
                warnings.warn(
                    f"text {number} is mostly outside of what this vocabulary was trimmed to: of {', '.join(gone)} it holds single "
                    "characters alone, and answers are worse; take the untrimmed model for such texts. This is said once",
                    HeadwayWarning,
                    stacklevel=5,
                )
                return

    def _shortened(self, texts: Sequence[Text], limit: int) -> list[Text]:
        """Cut very long texts, whose first `limit` tokens stay the same."""
        return [
            self._beginning(t, limit)
            if isinstance(t, str)
            else (self._beginning(t[0], limit), self._beginning(t[1], limit))
            for t in texts
        ]

    def _beginning(self, text: str, limit: int) -> str:
        return shorten(self._whole, text, limit) if is_long(text, limit) else text

    @cached_property
    def _whole(self) -> Any:
        """The tokenizer without truncation, made for the first text that is very long."""
        whole = self._open()
        whole.no_truncation()
        return whole

    def _special(self, *, is_pair: bool) -> int:
        return int(self.tokenizer.num_special_tokens_to_add(is_pair=is_pair))

    def _check_limit(self, max_length: int, *, is_pair: bool) -> None:
        least, most = max(self._special(is_pair=is_pair), 1), self.info.max_length
        if not least <= max_length <= most:
            raise UsageError(f"max_length is {max_length}; give {least} to {most} tokens, which this model takes")

    def batch(self, encodings: Sequence[Any]) -> dict[str, np.ndarray]:
        """Return ids, mask and token types as int64 `[batch, longest text]`, padded on the right.

        Texts without any token have one of padding, since no graph takes sequences of none.
        """
        length = max((len(e.ids) for e in encodings), default=0)
        length = max(length, 1) if len(encodings) else 0
        shape = (len(encodings), length)
        ids = np.full(shape, self.info.pad_id, np.int64)
        mask = np.zeros(shape, np.int64)
        types = np.full(shape, self.info.pad_type_id, np.int64)
        for row, encoding in enumerate(encodings):
            n = len(encoding.ids)
            ids[row, :n], mask[row, :n], types[row, :n] = encoding.ids, 1, encoding.type_ids
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}

    def __call__(self, texts: Sequence[Text], max_length: int | None = None) -> dict[str, np.ndarray]:
        """Encode texts or pairs as one batch."""
        return self.batch(self.encode(texts, max_length))


def checked_texts(texts: Sequence[Text]) -> list[Text]:
    """Return texts, and pairs as tuples. UsageError names the first that is neither."""
    if isinstance(texts, str | bytes) or texts is None:
        raise UsageError(f"a list of texts is expected, not one {'string' if texts is not None else 'None'}")
    return [text if type(text) is str and text.isascii() else _checked(text, i) for i, text in enumerate(texts)]


def checked_singles(texts: Sequence[str]) -> list[str]:
    """Return single texts. UsageError names the first that is none."""
    singles = []
    for index, text in enumerate(checked_texts(texts)):
        if not isinstance(text, str):
            raise UsageError(f"text {index} is a pair; give single texts")
        singles.append(text)
    return singles


def checked_pairs(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return pairs of texts. UsageError names the first that is none."""
    checked = []
    for index, pair in enumerate(checked_texts(pairs)):
        if isinstance(pair, str):
            raise UsageError(f"text {index} is a single text; give pairs of a question and its context")
        checked.append(pair)
    return checked


def _checked(text: Any, index: int) -> Text:
    if isinstance(text, str):
        return _encodable(text, f"text {index}")
    if not isinstance(text, tuple | list):
        hint = ": decode it" if isinstance(text, bytes) else ""
        raise UsageError(f"text {index} is of type {type(text).__name__}{hint}; give strings, or pairs of strings")
    if len(text) != 2 or not all(isinstance(part, str) for part in text):
        kinds = ", ".join(type(part).__name__ for part in text)
        raise UsageError(f"text {index} is ({kinds}); a pair is two strings")
    first, second = (_encodable(part, f"text {index}") for part in text)
    return first, second


def _encodable(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{name} has half of a surrogate pair at character {error.start}, which no tokenizer reads"
        ) from error
    return str(text)
