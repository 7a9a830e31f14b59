"""Read from a loaded MultiVectorEncoder how it reads queries and documents. Its library finds that in several places."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import SourceError
from ...manifest import Side
from ...text import Text
from ..source.source import Source
from .base import Answers
from .sentence import SentenceReference
from .torch_reference import first_lines


def with_sides(source: Source, opened: Any) -> Source:
    """Return a source with the prompts, tokenizer and sides of its loaded model. SourceError for a side that no bundle reads."""
    if source.route is not None:
        raise SourceError(
            f"{source.spec}: a Router of several vectors for each text is not read: save the modules of a route as a directory of "
            "their own"
        )
    modules = list(opened)
    masks = [module for module in modules if type(module).__name__ == "MultiVectorMask"]
    prompts = {name: text for name, text in (opened.prompts or {}).items() if text is not None}
    sides = {name: _side(modules[0], masks, name, source) for name in ("query", "document")}
    return replace(source, prompts=prompts, sides=sides, tokenizer=opened.tokenizer)


def _side(first: Any, masks: Sequence[Any], name: str, source: Source) -> Side:
    given = first.query_length if name == "query" else first.document_length
    side = Side(max_length=min(int(given or source.longest), source.longest))
    expansion = first.query_expansion if name == "query" else None
    if expansion is not None:
        if not masks or not 1 <= expansion["length"] <= source.longest:
            raise SourceError(
                f"{source.spec}: query_expansion of {expansion['length']} tokens needs a MultiVectorMask, and a model that takes as "
                f"many; this one takes {source.longest}: correct it"
            )
        side.expansion_length, side.attended = int(expansion["length"]), bool(expansion["attend"])
        side.expansion_id = _expansion_id(first.tokenizer, expansion["token"])
        if expansion["strategy"] == "fixed":
            side.max_length = side.expansion_length
        elif given is not None:
            side.max_length = min(max(side.max_length, side.expansion_length), source.longest)
    for mask in masks:
        if name in mask.skiplist_tasks and mask._skiplist_ids is not None:
            side.skipped = sorted({*side.skipped, *(int(i) for i in mask._skiplist_ids)})
        if name != "query" and mask.keep_only_token_ids:
            side.only = sorted(int(i) for i in mask.keep_only_token_ids)
    return side


def _expansion_id(tokenizer: Any, token: str | None) -> int:
    """Return the id that texts are filled up with; without a token of that kind, that of padding."""
    if token is not None:
        return int(tokenizer.convert_tokens_to_ids(token))
    known = (tokenizer.mask_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return int(next(i for i in known if i is not None))


class LateInteractionReference(SentenceReference):
    """The library's own calls for queries and documents."""

    def from_side(self, texts: Sequence[Text], side: str) -> Answers:
        """Return what `encode_query` or `encode_document` makes of texts. SourceError where the library fails on them."""
        opened = self.module.opened
        call = opened.encode_query if side == "query" else opened.encode_document
        try:
            items = call(list(texts), output_value=None, batch_size=len(texts), show_progress_bar=False)
        except Exception as error:  # whatever the model's own code raises
            raise SourceError(
                f"{self.source.spec}: the source itself does not run on text: {first_lines(error)}"
            ) from error
        masks = [item["attention_mask"].bool().numpy() for item in items]
        ids = [item["input_ids"].numpy()[mask] for item, mask in zip(items, masks, strict=True)]
        return Answers(
            ids, {"token_embeddings": np.stack([item["token_embeddings"].float().numpy() for item in items])}
        )
