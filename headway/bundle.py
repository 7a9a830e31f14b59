"""Open and run a bundle, the directory that production loads. Needs onnxruntime, tokenizers and numpy only."""

from collections.abc import Sequence
from typing import Any, TypeVar, overload

import numpy as np

from .entities import Aggregation, check_aggregation, entity_spans, tokens_of
from .errors import UsageError
from .results import Candidates, Choice, Entities, Label, Labels, Scores
from .retrieval import Retrieval
from .tasks import best_answer, best_of, likeliest, softmax
from .text import Text, checked_pairs, checked_singles
from .zero_shot import TEMPLATE, entailment, hypotheses, label_scores


class Bundle(Retrieval):
    """An opened bundle: call it with texts, get numpy arrays by output name.

    `bundle(["a text", ("a question", "its context")])["logits"]` has one row per text. Outputs per token are padded with
    zeros to the longest text.
    """

    @overload
    def labels(
        self,
        texts: Sequence[Text],
        *,
        threshold: None = None,
        batch_size: int = 32,
        max_length: int | None = None,
    ) -> list[Label]: ...

    @overload
    def labels(
        self, texts: Sequence[Text], *, threshold: float, batch_size: int = 32, max_length: int | None = None
    ) -> list[Labels]: ...

    def labels(
        self,
        texts: Sequence[Text],
        *,
        threshold: float | None = None,
        batch_size: int = 32,
        max_length: int | None = None,
    ) -> list[Label] | list[Labels]:
        """Return the label with the largest score of each text, and its score (text-classification).

        With a `threshold`, return all labels whose score is at least that, the largest first: where several labels may hold.
        See `scores` for what a score is. A result says with `truncated` that only the beginning of its text was read.
        """
        self._expect("text-classification")
        encodings, cuts = self._encode(texts, max_length)
        results = []
        for row, cut in zip(self._scores(encodings, batch_size), cuts, strict=True):
            order = np.argsort(-row, kind="stable")
            results.append(Labels(Label(self._label(int(i)), float(row[i]), cut) for i in order))
        if threshold is None:
            return [result[0] for result in results]
        above = [Labels(label for label in result if label[1] >= threshold) for result in results]
        return [_marked(labels, cut) for labels, cut in zip(above, cuts, strict=True)]

    def scores(self, texts: Sequence[Text], *, batch_size: int = 32, max_length: int | None = None) -> list[Scores]:
        """Return the score of every label, by its name, for each text (text-classification).

        The model's config decides what a score is: a probability among all labels, a probability of each label by itself, or
        a plain value. `scoring` says which. A result says with `truncated` that only the beginning of its text was read.
        """
        self._expect("text-classification")
        encodings, cuts = self._encode(texts, max_length)
        rows = zip(self._scores(encodings, batch_size), cuts, strict=True)
        return [_marked(Scores((self._label(i), float(x)) for i, x in enumerate(row)), cut) for row, cut in rows]

    def classify(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        template: str = TEMPLATE,
        multi_label: bool = False,
        batch_size: int = 32,
        max_length: int | None = None,
    ) -> list[Scores]:
        """Return the score of each of `labels`, the largest first, for each text: zero-shot classification.

        For text-classification models of natural language inference, those with a label that begins with "entail". Each label is put
        into `template`, and the model says whether that sentence follows from the text. Scores of a text add up to 1; with
        `multi_label`, each is a probability by itself. As the pipeline of transformers does. A result says with `truncated` that only
        the beginning of its text was read. UsageError for other models, a template without `{}`, and no labels.
        """
        self._expect("text-classification")
        follows = entailment(self.manifest.labels)
        if follows is None or len(self.manifest.labels) < 2:
            known = ", ".join(self.manifest.labels.values()) or "no names"
            raise UsageError(
                f"{self.path}: no label begins with entail ({known}); classify needs a model of natural language inference"
            )
        sentences = hypotheses(labels, template)
        pairs = [(text, sentence) for text in checked_singles(texts) for sentence in sentences]
        if not pairs:
            return []
        encodings = self.encoder.encode_pairs(pairs, max_length)
        self.check_tokens(encodings, "pair")
        cuts = _any_of([self.encoder.truncated(e, max_length) for e in encodings], len(sentences))
        self._tell_of_cuts(cuts, max_length)
        logits = self._outputs(encodings, batch_size)["logits"].reshape(len(texts), len(sentences), -1)
        results = []
        for row, cut in zip(label_scores(logits, follows, multi_label=multi_label), cuts, strict=True):
            order = np.argsort(-row, kind="stable")
            results.append(_marked(Scores((labels[i], float(row[i])) for i in order), cut))
        return results

    def entities(
        self,
        texts: Sequence[str],
        *,
        aggregation: Aggregation = "simple",
        batch_size: int = 32,
        max_length: int | None = None,
        outside: str = "O",
    ) -> list[Entities]:
        """Return the entities of each text: `label`, `start`, `end` (characters), `text`, `score` (token-classification).

        `aggregation` labels each token (`simple`), or each word by its `first` token, by the `average` of its tokens, or by the
        surest of them (`max`), as the pipeline of transformers does. Neighbors of the same label join; `B-` begins anew.
        `outside` is the label of no entity. A result says with `truncated` that only the beginning of its text was read.
        """
        self._expect("token-classification")
        check_aggregation(aggregation)
        checked = checked_singles(texts)
        encodings, cuts = self._encode(checked, max_length)
        logits = self._outputs(encodings, batch_size)["logits"]
        prefixed = bool(getattr(self.encoder.tokenizer.model, "continuing_subword_prefix", None))
        unknown = self._unknown_id()
        results = []
        labels = [self._label(i) for i in range(logits.shape[-1])]
        for text, encoding, row, cut in zip(checked, encodings, logits, cuts, strict=True):
            tokens = tokens_of(text, encoding, softmax(row), prefixed=prefixed, unknown=unknown)
            spans = entity_spans(text, tokens, labels, outside=outside, aggregation=aggregation)
            results.append(_marked(spans, cut))
        return results

    def answers(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        batch_size: int = 32,
        longest: int = 30,
        max_length: int | None = None,
        stride: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return the best span of each context for its question (question-answering).

        Each answer has `answer`, `start` and `end` (characters), and `score` (a sum of logits). `longest` is in tokens. A
        context that is longer than the model takes is read in windows of `max_length` tokens, of which neighbors have
        `stride` tokens in common; the best span of all windows is the answer. UsageError for a context without a token.
        """
        self._expect("question-answering")
        if longest < 1:
            raise UsageError(f"longest is {longest}; give at least 1 token")
        checked = checked_pairs(pairs)
        windows = self.encoder.windows(checked, max_length, stride)
        for index, group in enumerate(windows):
            if not any(1 in window.sequence_ids for window in group):
                raise UsageError(f"text {index} has an empty context; give one in which the answer may stand")
        outputs = self._outputs([w for group in windows for w in group], batch_size)
        rows = iter(zip(outputs["start_logits"], outputs["end_logits"], strict=True))
        results = []
        for (_, context), group in zip(checked, windows, strict=True):
            results.append(best_of([best_answer(context, w, *next(rows), longest) for w in group]))
        return results

    def fill(
        self, texts: Sequence[str], *, count: int = 5, batch_size: int = 32, max_length: int | None = None
    ) -> list[Candidates]:
        """Return the `count` likeliest tokens at the mask of each text, the likeliest first (fill-mask).

        Each has `token`, its `id`, `score` (a probability) and `text`, the text that is filled in. For a text with several
        masks there is such a list for each of them. A result says with `truncated` that only the beginning of its text was read.
        UsageError for a text without a mask.
        """
        self._expect("fill-mask")
        encodings, cuts = self._encode(texts, max_length)
        mask = self._mask_id()
        places = [[i for i, token in enumerate(e.ids) if token == mask] for e in encodings]
        for index, (masks, cut) in enumerate(zip(places, cuts, strict=True)):
            if not masks:
                where = " in the part that is read" if cut else ""
                raise UsageError(f"text {index} has no {self.encoder.tokenizer.id_to_token(mask)}{where} to fill in")
        logits = self._outputs(encodings, batch_size)["logits"]
        results = []
        for encoding, row, masks, cut in zip(encodings, logits, places, cuts, strict=True):
            filled = [self._filled(encoding.ids, at, row[at], count, len(masks) == 1) for at in masks]
            results.append(_marked(Candidates(filled[0] if len(masks) == 1 else filled), cut))
        return results

    def _filled(self, ids: list[int], at: int, logits: np.ndarray, count: int, skip: bool) -> list[dict[str, Any]]:
        tokenizer = self.encoder.tokenizer
        return [
            {
                "token": tokenizer.decode([i], skip_special_tokens=False),
                "id": i,
                "score": score,
                "text": tokenizer.decode([*ids[:at], i, *ids[at + 1 :]], skip_special_tokens=skip),
            }
            for i, score in likeliest(logits, count)
        ]

    def _unknown_id(self) -> int | None:
        model = self.encoder.tokenizer.model
        name = getattr(model, "unk_token", None)
        found = self.encoder.tokenizer.token_to_id(name) if name else getattr(model, "unk_id", None)
        return None if found is None else int(found)

    def _mask_id(self) -> int:
        """Return the id of the mask: the manifest's, or in older ones that of the added token that is called so."""
        stored = self.manifest.tokenizer.mask_id
        if stored is not None:
            return stored
        for index, token in self.encoder.tokenizer.get_added_tokens_decoder().items():
            if "mask" in token.content.lower():
                return int(index)
        raise UsageError(f"{self.path}: the tokenizer has no token for a mask")

    def choices(self, questions: Sequence[tuple[str, Sequence[str]]], *, max_length: int | None = None) -> list[Choice]:
        """Return the index of the likeliest option of each `(question, options)` and its probability (multiple-choice).

        A result says with `truncated` that an option or its question was cut.
        """
        self._expect("multiple-choice")
        choices = []
        for index, (question, options) in enumerate(questions):
            if not options:
                raise UsageError(f"question {index} has no options; give at least one")
            pairs = [(question, option) for option in options]
            encodings, cuts = self._encode(pairs, max_length, f"question {index}")
            batch = self.encoder.batch(encodings)
            logits = self.runner.run({name: array[None] for name, array in batch.items()})["logits"][0]
            best = int(logits.argmax())
            choices.append(Choice(best, float(softmax(logits)[best]), any(cuts)))
        return choices

    def _label(self, index: int) -> str:
        return self.manifest.labels.get(str(index), f"LABEL_{index}")


_Result = TypeVar("_Result", Labels, Scores, Entities, Candidates)


def _any_of(cuts: Sequence[bool], size: int) -> list[bool]:
    """Return whether any of each `size` neighbors was cut."""
    return [any(cuts[start : start + size]) for start in range(0, len(cuts), size)]


def _marked(result: _Result, cut: bool) -> _Result:
    """Return a result that says whether its text was cut."""
    result.truncated = cut
    return result
