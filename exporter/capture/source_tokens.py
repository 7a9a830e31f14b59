"""Tokenize text by a source's own tokenizer in transformers, as its users do."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ...text import Text
from ..source.source import Source
from ..source.tokenizer import source_tokenizer
from .base import Answers, align

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

_PER_TEXT = ("text-classification", "multiple-choice")


class SourceTokens:
    """A source's tokenizer. It pads on the right here, also where it is set to the left: absolute positions would move otherwise."""

    def __init__(self, source: Source):
        self.source = source

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of transformers, loaded when it is first needed."""
        tokenizer = source_tokenizer(self.source)
        tokenizer.padding_side = "right"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def answer(
        self, texts: Sequence[Text], names: Sequence[str], run: Run, per_token: Collection[str] | None = None
    ) -> Answers:
        """Tokenize texts, `run` the model on ids by the input `names`, and return what comes out.

        Outputs named in `per_token` are `[texts, tokens, …]`; where it is None, the task and the names of Hugging Face tell.
        """
        firsts = [t if isinstance(t, str) else t[0] for t in texts]
        seconds = None if isinstance(texts[0], str) else [t[1] for t in texts]
        limit = {"truncation": True, "max_length": self.source.longest}
        encoded = self.tokenizer(firsts, seconds, padding=True, return_attention_mask=True, **limit)
        feeds = {name: np.asarray(array, np.int64) for name, array in encoded.items()}
        mask = feeds["attention_mask"].astype(bool)
        given = {n: feeds.get(n, np.zeros_like(feeds["input_ids"])) for n in names}
        if self.source.task == "multiple-choice":  # two options to a question
            given = {n: array.reshape(-1, 2, array.shape[-1]) for n, array in given.items()}
        outputs = {}
        for name, array in run(given).items():
            of_tokens = name in per_token if per_token is not None else self._is_per_token(name)
            outputs[name] = align([row[m] for row, m in zip(array, mask, strict=True)]) if of_tokens else array
        return Answers([row[m] for row, m in zip(feeds["input_ids"], mask, strict=True)], outputs)

    def _is_per_token(self, name: str) -> bool:
        return name != "sentence_embedding" and self.source.task not in _PER_TEXT
