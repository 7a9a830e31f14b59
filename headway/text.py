"""Turn text into token ids, exactly as the source's tokenizer does."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .errors import SourceError
from .long_text import is_long, shorten
from .manifest import TokenizerInfo

Text = str | tuple[str, str]


class TextEncoder:
    """Encode text with the `tokenizers` library, exactly as the source's tokenizer does."""

    def __init__(self, path: Path, info: TokenizerInfo):
        from tokenizers import Tokenizer

        try:
            self.tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise SourceError(f"{path}: not a tokenizer file ({error})") from error
        self.info = info
        self.tokenizer.no_padding()

    def encode(self, texts: Sequence[Text], max_length: int | None = None) -> list[Any]:
        """Return one `tokenizers.Encoding` per text or pair, truncated to `max_length` tokens (default: the model's)."""
        limit = max_length or self.info.max_length
        self.tokenizer.enable_truncation(limit)
        return self.tokenizer.encode_batch(
            [
                self._shortened(t, limit) if isinstance(t, str) else tuple(self._shortened(part, limit) for part in t)
                for t in texts
            ]
        )

    def _shortened(self, text: str, limit: int) -> str:
        return shorten(self._whole, text, limit) if is_long(text, limit) else text

    @cached_property
    def _whole(self) -> Any:
        """The tokenizer without truncation, made for the first text that is very long."""
        whole = type(self.tokenizer).from_str(self.tokenizer.to_str())
        whole.no_truncation()
        return whole

    def batch(self, encodings: Sequence[Any]) -> dict[str, np.ndarray]:
        """Return ids, mask and token types as int64 `[batch, longest text]`, padded on the right."""
        length = max((len(e.ids) for e in encodings), default=0)
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
