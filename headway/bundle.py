"""Open and run a bundle, the directory that production loads. Needs onnxruntime, tokenizers and numpy only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UsageError
from .manifest import Manifest, check_files, check_whole
from .opening import Checksums, check_padding, check_tensors, open_one
from .runners.base import Runner
from .runners.open import open_artifact, opened_files
from .tasks import best_answer, entity_spans, softmax
from .text import Text, TextEncoder


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
        Raises SourceError where a file is missing, changed or not the bundle's own, TargetError where the target cannot run here.
        """
        directory = Path(path)
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

    def __call__(self, texts: Sequence[Text], *, batch_size: int = 32) -> dict[str, np.ndarray]:
        """Return outputs by name for texts or pairs of texts: float32, rows in the order of `texts`."""
        if self.manifest.task == "multiple-choice":
            raise UsageError(f"{self.path}: a multiple-choice bundle; call choices([(question, options), …])")
        return self._outputs(self._encode(texts), batch_size)

    def _encode(self, texts: Sequence[Text]) -> list[Any]:
        if isinstance(texts, str):
            raise UsageError("a list of texts is expected, not one string")
        return self.encoder.encode(texts)

    def _outputs(self, encodings: Sequence[Any], batch_size: int) -> dict[str, np.ndarray]:
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
        return results

    def labels(self, texts: Sequence[Text], *, batch_size: int = 32) -> list[tuple[str, float]]:
        """Return the likeliest class of each text and its probability (text-classification)."""
        self._expect("text-classification")
        probabilities = softmax(self(texts, batch_size=batch_size)["logits"])
        best = probabilities.argmax(axis=-1)
        return [(self._label(int(b)), float(p[b])) for p, b in zip(probabilities, best, strict=True)]

    def entities(self, texts: Sequence[str], *, batch_size: int = 32, outside: str = "O") -> list[list[dict[str, Any]]]:
        """Return the entities of each text: `label`, `start`, `end` (characters), `text`, `score` (token-classification).

        Neighboring tokens of the same label join; `B-` and `I-` prefixes are honored. `outside` is the label of no entity.
        """
        encodings = self._encode(texts)
        self._expect("token-classification")
        probabilities = softmax(self._outputs(encodings, batch_size)["logits"])
        return [
            entity_spans(text, encoding, p, [self._label(i) for i in range(p.shape[-1])], outside)
            for text, encoding, p in zip(texts, encodings, probabilities, strict=True)
        ]

    def answers(
        self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 32, longest: int = 30
    ) -> list[dict[str, Any]]:
        """Return the best span of each context for its question (question-answering).

        Each answer has `answer`, `start` and `end` (characters), and `score` (a sum of logits). `longest` is in tokens.
        """
        encodings = self._encode(pairs)
        self._expect("question-answering")
        outputs = self._outputs(encodings, batch_size)
        rows = zip(pairs, encodings, outputs["start_logits"], outputs["end_logits"], strict=True)
        return [best_answer(context, encoding, s, e, longest) for (_, context), encoding, s, e in rows]

    def choices(self, questions: Sequence[tuple[str, Sequence[str]]]) -> list[tuple[int, float]]:
        """Return the index of the likeliest option of each `(question, options)` and its probability (multiple-choice)."""
        self._expect("multiple-choice")
        choices = []
        for question, options in questions:
            batch = self.encoder.batch(self._encode([(question, option) for option in options]))
            logits = self.runner.run({name: array[None] for name, array in batch.items()})["logits"][0]
            best = int(logits.argmax())
            choices.append((best, float(softmax(logits)[best])))
        return choices

    def _label(self, index: int) -> str:
        return self.manifest.labels.get(str(index), f"LABEL_{index}")

    def _expect(self, task: str) -> None:
        if self.manifest.task != task:
            raise UsageError(f"{self.path}: a {self.manifest.task} bundle; {task} is needed for this call")
