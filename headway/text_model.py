"""Open a bundle, and run texts through its tokenizer and its artifact. What an answer means is read above this."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from .errors import HeadwayWarning, UsageError
from .manifest import Manifest, check_files, check_whole
from .opening import Checksums, check_padding, check_tensors, folder_of, open_one
from .results import Outputs
from .runners.base import NO_TOKEN, Limits, Runner
from .runners.open import open_artifact, opened_files
from .text import Text, TextEncoder


class TextModel:
    """A manifest, its tokenizer and its runner: texts in, arrays out."""

    def __init__(self, path: Path, manifest: Manifest, runner: Runner):
        self.path = path
        self.manifest = manifest
        self.runner = runner
        info = manifest.tokenizer
        self.encoder = TextEncoder(path / info.file, info)
        runner.limits = Limits(manifest.anatomy.get("vocabulary"), bool(manifest.parity.get("empty_rows", True)))
        self._told_of_cuts = False

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        check: bool = True,
    ) -> Self:
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
    def _open(cls, directory: Path, threads: int | None, providers: Sequence[str] | None, check: bool) -> Self:
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

    def _encode(
        self, texts: Sequence[Text], max_length: int | None, name: str | None = None
    ) -> tuple[list[Any], list[bool]]:
        """Return encodings, and which texts were cut; warn the first time that one is. To be called by public methods alone.

        `name` is what the warning calls the text, by default its number.
        """
        encodings = self.encoder.encode(texts, max_length)
        self.check_tokens(encodings)
        cuts = [self.encoder.truncated(e, max_length) for e in encodings]
        self._tell_of_cuts(cuts, max_length, name, stacklevel=4)
        return encodings, cuts

    def check_tokens(self, encodings: Sequence[Any], name: str = "text") -> None:
        """Raise UsageError naming the first text without a token, where this artifact has no answer to such a text.

        A side that fills its texts up gives them tokens later on.
        """
        if self.runner.limits.empty_rows or self.manifest.sides:
            return
        empty = next((i for i, encoding in enumerate(encodings) if not encoding.ids), None)
        if empty is not None:
            raise UsageError(f"{name} {empty}: {NO_TOKEN}")

    def _tell_of_cuts(
        self, cuts: Sequence[bool], max_length: int | None, name: str | None = None, stacklevel: int = 3
    ) -> None:
        """Warn, the first time that a text is cut."""
        if any(cuts) and not self._told_of_cuts:
            self._told_of_cuts = True
            limit = max_length or self.manifest.tokenizer.max_length
            warnings.warn(
                f"{name or f'text {cuts.index(True)}'} has more than {limit} tokens, and only its beginning is read; results say so "
                "with `truncated`, and this is said once",
                HeadwayWarning,
                stacklevel=stacklevel,
            )

    def _expect(self, *tasks: str) -> None:
        if self.manifest.task not in tasks:
            raise UsageError(
                f"{self.path}: a {self.manifest.task} bundle; {' or '.join(tasks)} is needed for this call"
            )
