"""Open and run a bundle, the directory that production loads. Needs onnxruntime, tokenizers and numpy only."""

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from .embeddings import Ranked, prompt_for, ranked, shortened
from .entities import Aggregation, check_aggregation, entity_spans, tokens_of
from .errors import HeadwayWarning, SourceError, UsageError
from .manifest import Manifest, check_files, check_whole, logit_columns
from .opening import Checksums, check_padding, check_tensors, folder_of, open_one
from .results import Candidates, Choice, Entities, Label, Labels, Outputs, Scores
from .runners.base import Runner
from .runners.open import open_artifact, opened_files
from .tasks import Scoring, best_answer, best_of, likeliest, softmax
from .text import Text, TextEncoder, checked_pairs, checked_singles


class Bundle:
    """An opened bundle: call it with texts, get numpy arrays by output name.

    `bundle(["a text", ("a question", "its context")])["logits"]` has one row per text. Outputs per token are padded with
    zeros to the longest text.
    """

    def __init__(self, path: Path, manifest: Manifest, runner: Runner):
        self.path = path
        self.manifest = manifest
        self.runner = runner
        info = manifest.tokenizer
        self.encoder = TextEncoder(path / info.file, info)
        runner.vocabulary = manifest.anatomy.get("vocabulary")
        self._told_of_cuts = False

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        check: bool = True,
    ) -> "Bundle":
        """Open the bundle in the directory `path`.

        `threads` is the size of the runtime's thread pool. `providers` replaces the target's own ONNX Runtime providers.
        What is opened is compared with its sha256 meanwhile; `check=False` leaves that out, for those who have checked.
        Where the bundle is replaced meanwhile, the old one or the new one is opened, and no mixture.
        Raises SourceError where a file is missing, changed or not the bundle's own, TargetError where the target cannot run here,
        UsageError where `path` is no path or `threads` less than 1.
        """
        directory = folder_of(path, threads)
        return open_one(directory, lambda: cls._open(directory, threads, providers, check))

    @classmethod
    def _open(cls, directory: Path, threads: int | None, providers: Sequence[str] | None, check: bool) -> "Bundle":
        manifest = Manifest.read(directory)
        check_whole(directory, manifest)
        names = opened_files(manifest.runner, directory, manifest.artifact, providers=providers is not None)
        with Checksums(directory, manifest, [*names, manifest.tokenizer.file], check=check):
            artifact = directory / manifest.artifact
            runner = open_artifact(manifest.runner, artifact, manifest.session_options, threads, providers)
            bundle = cls(directory, manifest, runner)
        check_tensors(directory, manifest, runner.input_names, runner.output_names)
        check_padding(directory, manifest, bundle.encoder.tokenizer)
        return bundle

    def check_files(self) -> None:
        """Compare every file with the sha256 in the manifest; SourceError names one that was changed."""
        check_files(self.path, self.manifest)

    def __call__(self, texts: Sequence[Text], *, batch_size: int = 32, max_length: int | None = None) -> Outputs:
        """Return outputs by name for texts or pairs of texts: float32, rows in the order of `texts`.

        Texts are cut to `max_length` tokens, by default what the model takes; `truncated` of what is returned says which were.
        """
        if self.manifest.task == "multiple-choice":
            raise UsageError(f"{self.path}: a multiple-choice bundle; call choices([(question, options), …])")
        encodings, cuts = self._encode(texts, max_length)
        return Outputs(self._outputs(encodings, batch_size), cuts)

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        truncate_dim: int | None = None,
        normalize: bool = False,
        batch_size: int = 32,
        max_length: int | None = None,
    ) -> np.ndarray:
        """Return the embeddings of texts, float32 `[texts, dimensions]` (sentence-embedding), as sentence-transformers' `encode` does.

        `prompt` is put in front of each text; `prompt_name` takes one of the manifest's `prompts`. `truncate_dim` keeps the first
        dimensions alone, and `normalize` then scales to length 1. UsageError names an unknown prompt or too many dimensions.
        """
        self._expect("sentence-embedding")
        front = prompt_for(self.manifest.prompts, prompt_name, prompt)
        encodings, _ = self._encode([front + text for text in checked_singles(texts)], max_length)
        embeddings = self._outputs(encodings, batch_size)["sentence_embedding"]
        return shortened(embeddings, truncate_dim, normalize=normalize)

    def rank(
        self,
        query: str,
        texts: Sequence[str],
        *,
        top_k: int | None = None,
        batch_size: int = 32,
        max_length: int | None = None,
    ) -> list[Ranked]:
        """Return texts by how well they answer `query`, the best first, at most `top_k` (a cross-encoder with one score).

        Each has its `index` among `texts`, its `score` with the activation of the model's config, and the `text`.
        """
        if top_k is not None and top_k < 1:
            raise UsageError(f"top_k is {top_k}; give at least 1, or leave it out for all texts")
        self._expect("text-classification")
        columns = logit_columns(self.manifest.outputs)
        if columns != 1:
            raise UsageError(f"{self.path}: a text has {columns} scores; a ranking needs a model that gives one")
        pairs = [(query, text) for text in checked_singles(texts)]
        if not pairs:
            return []
        encodings, _ = self._encode(pairs, max_length)
        return ranked(texts, self._scores(encodings, batch_size)[:, 0], top_k)

    def _outputs(self, encodings: Sequence[Any], batch_size: int) -> dict[str, np.ndarray]:
        if batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}; give at least 1")
        # Neighbors in length share a batch, so that little of it is padding.
        order = np.argsort([len(e.ids) for e in encodings], kind="stable")
        longest = max((len(e.ids) for e in encodings), default=0)
        per_token = {o.name for o in self.manifest.outputs if "sequence" in o.shape}
        results: dict[str, np.ndarray] = {}
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            part = self.runner.run(self.encoder.batch([encodings[i] for i in rows]))
            for name, array in part.items():
                if name not in results:
                    tail = (longest, *array.shape[2:]) if name in per_token else array.shape[1:]
                    results[name] = np.zeros((len(encodings), *tail), array.dtype)
                if name in per_token:
                    for row, answer in zip(rows, array, strict=True):
                        length = len(encodings[row].ids)
                        results[name][row, :length] = answer[:length]
                else:
                    results[name][rows] = array
        return results or self._no_outputs()

    def _no_outputs(self) -> dict[str, np.ndarray]:
        """Return the outputs for no texts: their sizes are known, except those that depend on the texts."""
        return {
            o.name: np.zeros([d if isinstance(d, int) else 0 for d in o.shape], o.dtype) for o in self.manifest.outputs
        }

    @cached_property
    def scoring(self) -> Scoring:
        """How logits become scores (text-classification). SourceError where this Headway does not know the way."""
        columns = logit_columns(self.manifest.outputs)
        try:
            return Scoring.of(self.manifest.scoring, columns or max(len(self.manifest.labels), 1))
        except ValueError as error:
            raise SourceError(f"{self.path}: this Headway does not know the {error}: install a newer one") from error

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

    def _scores(self, encodings: Sequence[Any], batch_size: int) -> np.ndarray:
        """Return scores `[texts, labels]`."""
        return self.scoring.scores(self._outputs(encodings, batch_size)["logits"])

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

    def _encode(
        self, texts: Sequence[Text], max_length: int | None, name: str | None = None
    ) -> tuple[list[Any], list[bool]]:
        """Return encodings, and which texts were cut; warn the first time that one is. To be called by public methods alone.

        `name` is what the warning calls the text, by default its number.
        """
        encodings = self.encoder.encode(texts, max_length)
        cuts = [self.encoder.truncated(e, max_length) for e in encodings]
        if any(cuts) and not self._told_of_cuts:
            self._told_of_cuts = True
            limit = max_length or self.manifest.tokenizer.max_length
            warnings.warn(
                f"{name or f'text {cuts.index(True)}'} has more than {limit} tokens, and only its beginning is read; results say so "
                "with `truncated`, and this is said once",
                HeadwayWarning,
                stacklevel=3,
            )
        return encodings, cuts

    def _label(self, index: int) -> str:
        return self.manifest.labels.get(str(index), f"LABEL_{index}")

    def _expect(self, task: str) -> None:
        if self.manifest.task != task:
            raise UsageError(f"{self.path}: a {self.manifest.task} bundle; {task} is needed for this call")


_Result = TypeVar("_Result", Labels, Scores, Entities, Candidates)


def _marked(result: _Result, cut: bool) -> _Result:
    """Return a result that says whether its text was cut."""
    result.truncated = cut
    return result
