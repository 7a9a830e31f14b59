"""A bundle: the directory that production loads. Opening and running one needs onnxruntime, tokenizers and numpy only."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .errors import SourceError, UsageError
from .records import MANIFEST as MANIFEST
from .records import check_records
from .records import file_records as file_records
from .runner import Runner, open_artifact

SCHEMA_VERSION = 1

Text = str | tuple[str, str]


@dataclass
class TensorInfo:
    """One input or output: dtype by numpy name; symbolic dimensions by name."""

    name: str
    dtype: str
    shape: list[int | str]


@dataclass
class TokenizerInfo:
    """How text becomes ids: limits in tokens, what padding is made of."""

    file: str
    max_length: int
    pad_id: int
    pad_type_id: int
    pad_token: str


@dataclass
class Manifest:
    """`headway.json`, all of it. Timings live under `bench`, `devices` and `compression`: everything else repeats exactly."""

    schema_version: int
    headway_version: str
    target: str
    task: str
    artifact: str
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    tokenizer: TokenizerInfo
    session_options: dict[str, Any]
    source: dict[str, Any]
    anatomy: dict[str, Any]
    lowering: dict[str, Any]
    parity: dict[str, Any]
    libraries: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    bench: dict[str, Any] | None = None
    compression: dict[str, Any] | None = None
    engine: dict[str, Any] | None = None
    devices: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, directory: Path) -> "Manifest":
        """Reads and checks a manifest. SourceError names what is missing or not understood."""
        path = directory / MANIFEST
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SourceError(f"{directory}: no {MANIFEST}, so this is not a Headway bundle") from error
        except (OSError, ValueError) as error:
            raise SourceError(f"{path}: cannot be read ({error})") from error
        if not isinstance(raw, dict) or raw.get("schema_version") != SCHEMA_VERSION:
            version = raw.get("schema_version") if isinstance(raw, dict) else None
            raise SourceError(
                f"{path}: schema version {version!r} is not the {SCHEMA_VERSION} that this Headway reads; export the model again"
            )
        try:
            raw["inputs"] = [TensorInfo(**x) for x in raw["inputs"]]
            raw["outputs"] = [TensorInfo(**x) for x in raw["outputs"]]
            raw["tokenizer"] = TokenizerInfo(**raw["tokenizer"])
            return cls(**raw)
        except (KeyError, TypeError) as error:
            raise SourceError(f"{path}: a field is missing or unknown ({error})") from error


def check_whole(directory: Path, manifest: Manifest) -> None:
    """SourceError names a file of a bundle that is missing or has another length than its manifest says."""
    for name, record in manifest.files.items():
        file = directory / name
        if not file.is_file() or file.stat().st_size != record["bytes"]:
            raise SourceError(f"{file}: missing or not whole ({record['bytes']} bytes expected); copy the bundle again")


def check_files(directory: Path, manifest: Manifest) -> None:
    """Compares every file of a bundle with the sha256 in its manifest; SourceError names one that was changed."""
    if not manifest.files:
        raise SourceError(f"{directory / MANIFEST}: has no checksums; copy the bundle again, or make it again")
    check_records(directory, manifest.files)


class TextEncoder:
    """Text to ids, exactly as the source's tokenizer, by the `tokenizers` library."""

    def __init__(self, path: Path, info: TokenizerInfo):
        from tokenizers import Tokenizer

        try:
            self.tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise SourceError(f"{path}: not a tokenizer file ({error})") from error
        self.info = info
        self.tokenizer.no_padding()

    def encode(self, texts: Sequence[Text], max_length: int | None = None) -> list[Any]:
        """One `tokenizers.Encoding` per text or pair, cut to `max_length` tokens (default: the model's)."""
        self.tokenizer.enable_truncation(max_length or self.info.max_length)
        return self.tokenizer.encode_batch([t if isinstance(t, str) else tuple(t) for t in texts])

    def batch(self, encodings: Sequence[Any]) -> dict[str, np.ndarray]:
        """int64 `[batch, longest of these]` arrays: ids, mask and token types, padded on the right."""
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
        return self.batch(self.encode(texts, max_length))


class Bundle:
    """An opened bundle: call it with texts, get numpy arrays by output name.

    `bundle(["a text", ("a question", "its context")])["logits"]` has one row per text; outputs per token are padded with
    zeros to the longest text.
    """

    def __init__(self, path: Path, manifest: Manifest, runner: Runner):
        self.path = path
        self.manifest = manifest
        self.runner = runner
        info = manifest.tokenizer
        self.encoder = TextEncoder(path / info.file, info)

    @classmethod
    def open(cls, path: str | Path, *, threads: int | None = None, providers: Sequence[str] | None = None) -> "Bundle":
        """Opens a bundle. `threads`: size of the runtime's pool; `providers`: ONNX Runtime's, instead of the target's own.

        Raises SourceError where a file is missing or not whole, TargetError where the target cannot run here.
        """
        directory = Path(path)
        manifest = Manifest.read(directory)
        check_whole(directory, manifest)
        artifact = directory / manifest.artifact
        runner = open_artifact(manifest.target, artifact, manifest.session_options, threads, providers)
        return cls(directory, manifest, runner)

    def check_files(self) -> None:
        """Compares every file with the sha256 in the manifest; SourceError names one that was changed."""
        check_files(self.path, self.manifest)

    def __call__(self, texts: Sequence[Text], *, batch_size: int = 32) -> dict[str, np.ndarray]:
        """Texts (or pairs) → outputs by name, float32, rows in the order of `texts`."""
        if self.manifest.task == "multiple-choice":
            raise UsageError(f"{self.path}: a multiple-choice bundle; call choices([(question, options), …])")
        return self._outputs(self._encode(texts), batch_size)

    def _encode(self, texts: Sequence[Text]) -> list[Any]:
        if isinstance(texts, str):
            raise UsageError("a list of texts is expected, not one string")
        return self.encoder.encode(texts)

    def _outputs(self, encodings: Sequence[Any], batch_size: int) -> dict[str, np.ndarray]:
        # Neighbours in length share a batch, so that little of it is padding.
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
        """The likeliest class of each text and its probability (text-classification)."""
        self._expect("text-classification")
        probabilities = _softmax(self(texts, batch_size=batch_size)["logits"])
        best = probabilities.argmax(axis=-1)
        return [(self._label(int(b)), float(p[b])) for p, b in zip(probabilities, best, strict=True)]

    def entities(self, texts: Sequence[str], *, batch_size: int = 32, outside: str = "O") -> list[list[dict[str, Any]]]:
        """Labelled spans of each text: `label`, `start`, `end` (characters), `text`, `score` (token-classification).

        Neighbouring tokens of one label join, `B-` and `I-` prefixes heeded; `outside` is the label of no entity.
        """
        encodings = self._encode(texts)
        self._expect("token-classification")
        probabilities = _softmax(self._outputs(encodings, batch_size)["logits"])
        return [
            _spans(text, encoding, p, [self._label(i) for i in range(p.shape[-1])], outside)
            for text, encoding, p in zip(texts, encodings, probabilities, strict=True)
        ]

    def answers(
        self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 32, longest: int = 30
    ) -> list[dict[str, Any]]:
        """The best span of each context for its question: `answer`, `start`, `end` (characters), `score` (a logit sum)."""
        encodings = self._encode(pairs)
        self._expect("question-answering")
        outputs = self._outputs(encodings, batch_size)
        rows = zip(pairs, encodings, outputs["start_logits"], outputs["end_logits"], strict=True)
        return [_answer(context, encoding, s, e, longest) for (_, context), encoding, s, e in rows]

    def choices(self, questions: Sequence[tuple[str, Sequence[str]]]) -> list[tuple[int, float]]:
        """For each `(question, options)` the number of the likeliest option and its probability (multiple-choice)."""
        self._expect("multiple-choice")
        found = []
        for question, options in questions:
            batch = self.encoder.batch(self._encode([(question, option) for option in options]))
            logits = self.runner.run({name: array[None] for name, array in batch.items()})["logits"][0]
            best = int(logits.argmax())
            found.append((best, float(_softmax(logits)[best])))
        return found

    def _label(self, index: int) -> str:
        return self.manifest.labels.get(str(index), f"LABEL_{index}")

    def _expect(self, task: str) -> None:
        if self.manifest.task != task:
            raise UsageError(f"{self.path}: a {self.manifest.task} bundle; {task} is needed for this call")


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _spans(
    text: str, encoding: Any, probabilities: np.ndarray, labels: list[str], outside: str
) -> list[dict[str, Any]]:
    spans: list[dict[str, Any]] = []
    previous_label, previous_index = None, -2
    for index, (start, end) in enumerate(encoding.offsets):
        if encoding.special_tokens_mask[index] or start == end:
            continue
        best = int(probabilities[index].argmax())
        label = labels[best].removeprefix("B-").removeprefix("I-")
        score = float(probabilities[index, best])
        if labels[best] == outside:
            previous_label = None
            continue
        if label == previous_label and index == previous_index + 1 and not labels[best].startswith("B-"):
            spans[-1]["end"] = end
            spans[-1]["score"] = min(spans[-1]["score"], score)
        else:
            spans.append({"label": label, "start": start, "end": end, "score": score})
        previous_label, previous_index = label, index
    return [{**s, "text": text[s["start"] : s["end"]]} for s in spans]


def _answer(
    context: str, encoding: Any, start_logits: np.ndarray, end_logits: np.ndarray, longest: int
) -> dict[str, Any]:
    inside = np.array([s == 1 for s in encoding.sequence_ids])
    n = len(inside)
    scores = start_logits[:n, None] + end_logits[None, :n]
    allowed = inside[:, None] & inside[None, :]
    distance = np.arange(n)[None, :] - np.arange(n)[:, None]
    scores = np.where(allowed & (distance >= 0) & (distance < longest), scores, -np.inf)
    first, last = np.unravel_index(int(scores.argmax()), scores.shape)
    if not np.isfinite(scores[first, last]):
        return {"answer": "", "start": 0, "end": 0, "score": float("-inf")}
    start, end = encoding.offsets[first][0], encoding.offsets[last][1]
    return {"answer": context[start:end], "start": start, "end": end, "score": float(scores[first, last])}
