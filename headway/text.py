"""Turn text into token ids, exactly as the source's tokenizer does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import SourceError
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
        self.tokenizer.enable_truncation(max_length or self.info.max_length)
        return self.tokenizer.encode_batch([t if isinstance(t, str) else tuple(t) for t in texts])

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
