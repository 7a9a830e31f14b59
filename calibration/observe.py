"""What the values of a model look like on text: ranges, histograms, channels, second moments, samples, in one pass and bounded memory.

The graph runs in ONNX Runtime, texts of similar length together; what is observed is read and let go of, batch by batch.
Every statistic is exact, a sum of integers (`histogram`, `moments`) or chosen by the texts (`sample`), so results do not
depend on how texts are handed over, in which order, with how much padding, or by how many workers, as long as the runtime
gives a text the same activations beside others as alone. That is looked at while observing: where it does not, texts run alone.
"""

import json
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ..errors import SourceError, UsageError
from .batches import Batch, spans
from .histogram import Histogram, Method
from .moments import Moments
from .sample import Sample, token_keys

SCHEMA_VERSION = 2

_WINDOW = 128
"""Texts that are sorted by length before they are run."""
_TOKENS = 128
"""Tokens in one run, padding included; longer texts run alone. More is no faster and takes more memory."""

Feeds = Mapping[str, np.ndarray]


@dataclass
class Observation:
    """One value over all tokens of the text; padding never counts. Of a value without tokens every text is a row.

    `channel_low` and `channel_high` float32 `[channels]`: minimum and maximum along the last axis; `moment` float32
    `[channels, channels]` and `mean` float32 `[channels]`, where asked: means of `x xᵀ` and x over tokens; with them `sample`
    float32 `[at most 256, channels]`: tokens chosen by chance.
    """

    histogram: Histogram
    channel_low: np.ndarray
    channel_high: np.ndarray
    moment: np.ndarray | None = None
    mean: np.ndarray | None = None
    sample: np.ndarray | None = None

    def range(
        self, method: Method = "min-max", *, percentile: float = 99.999, bits: int = 8, symmetric: bool = False
    ) -> tuple[float, float]:
        """Lowest and highest value to represent, as `Histogram.range` finds them."""
        return self.histogram.range(method, percentile=percentile, bits=bits, symmetric=symmetric)


@dataclass
class Observations:
    """Observations by canonical value name, and what they were made of: fingerprints of model and text, seed, texts, tokens."""

    source: str
    text: str
    seed: int
    samples: int
    tokens: int
    values: dict[str, Observation] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        names = ("source", "text", "seed", "samples", "tokens")
        return {"schema_version": SCHEMA_VERSION, **{n: getattr(self, n) for n in names}}

    def save(self, stem: Path) -> None:
        """Writes `stem.safetensors` and `stem.json`."""
        from safetensors.numpy import save_file

        arrays: dict[str, np.ndarray] = {}
        bounds: dict[str, Any] = {}
        for name, o in self.values.items():
            arrays[f"counts/{name}"] = np.ascontiguousarray(o.histogram.counts)
            arrays |= {
                f"{k}/{name}": np.ascontiguousarray(a)
                for k in ("channel_low", "channel_high", "moment", "mean", "sample")
                if (a := getattr(o, k)) is not None
            }
            bounds[name] = {"exponent": o.histogram.exponent, "low": o.histogram.low, "high": o.histogram.high}
        save_file(arrays, stem.with_suffix(".safetensors"))
        text = json.dumps({**self.describe(), "values": bounds}, indent=2) + "\n"
        stem.with_suffix(".json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, stem: Path, *, source: str) -> "Observations":
        """Reads what `save` wrote; SourceError where it is unreadable, another version's or another model's."""
        from safetensors.numpy import load_file

        try:
            described = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
            arrays = load_file(stem.with_suffix(".safetensors"))
        except Exception as error:  # safetensors raises its own kinds
            raise SourceError(f"{stem}: what calibration found cannot be read ({error}); calibrate again") from error
        if not isinstance(described, dict) or described.pop("schema_version", None) != SCHEMA_VERSION:
            raise SourceError(f"{stem}: written by another version; calibrate again")
        if described.get("source") != source:
            raise SourceError(f"{stem}: found on another model (its fingerprint differs); calibrate again")
        try:
            bounds = described.pop("values")
            values = {
                name: Observation(
                    Histogram(**b, counts=arrays[f"counts/{name}"]),
                    arrays[f"channel_low/{name}"],
                    arrays[f"channel_high/{name}"],
                    arrays.get(f"moment/{name}"),
                    arrays.get(f"mean/{name}"),
                    arrays.get(f"sample/{name}"),
                )
                for name, b in bounds.items()
            }
            return cls(**described, values=values)
        except (KeyError, TypeError) as error:
            raise SourceError(f"{stem}: a field is missing or unknown ({error}); calibrate again") from error


def observe(
    model: ir.Model,
    batches: Iterable[Batch | Feeds],
    values: Sequence[str],
    *,
    moments: Sequence[str] = (),
    histograms: bool = True,
    workers: int = 1,
    source: str,
    text: str,
    seed: int = 0,
    on_batch: Callable[[], None] = lambda: None,
) -> Observations:
    """Runs a canonical model over the text once and observes `values`; of those in `moments` also second moments and a sample.

    Without `histograms` only extremes are kept: that is all min-max needs, and takes a third of the time off.
    `batches` may be a generator: they are taken one by one. `workers` threads share the graph and merge what they counted.
    `source` and `text` are fingerprints. Raises UsageError where there is no text or a value is not in the graph, and
    SourceError naming the value and the text where an activation is NaN or infinite.
    """
    sums = gather(model, batches, values, moments=moments, histograms=histograms, workers=workers, on_batch=on_batch)
    if not sums.samples:
        raise UsageError("the calibration text is empty")
    return Observations(source, text, seed, sums.samples, sums.tokens, sums.results())


def gather(
    model: ir.Model,
    batches: Iterable[Batch | Feeds],
    values: Sequence[str],
    *,
    moments: Sequence[str] = (),
    histograms: bool = True,
    workers: int = 1,
    on_batch: Callable[[], None] = lambda: None,
) -> "Sums":
    """What `observe` counts, not yet brought together: sums of several processes or machines merge exactly, in any order."""
    session = _Session(model, list(dict.fromkeys([*values, *moments])))
    feed = _Feed(batches)
    parts = [Sums(session.names, frozenset(moments), counted=histograms) for _ in range(max(workers, 1))]

    def work(sums: Sums) -> None:
        try:
            while (window := feed.next(on_batch)) is not None:
                for texts in portions(window):
                    for ran, mask, found in session.run(texts):
                        sums.add(ran, mask, found)
        except BaseException:
            feed.stop()
            raise

    try:
        if len(parts) == 1:
            work(parts[0])
        else:
            with ThreadPoolExecutor(len(parts)) as pool:
                for done in [pool.submit(work, p) for p in parts]:
                    done.result()
    except _NotFinite as error:
        raise SourceError(
            f"value {error.name!r}{session.readers[error.name]} is {error.what} on text {error.text.row} of the calibration "
            f"text ({len(error.text)} tokens): the model cannot be calibrated on it. Is its checkpoint whole? If only this "
            "text does it, leave it out"
        ) from None
    first, *others = parts
    for other in others:
        first.merge(other)
    return first


@dataclass(frozen=True)
class Text:
    """One text without padding: int64 `[tokens]` by input name, and its number."""

    feeds: dict[str, np.ndarray]
    row: int

    def __len__(self) -> int:
        return len(self.feeds["attention_mask"])


class _Feed:
    """Hands out the texts of the batches in windows, to whichever worker asks."""

    def __init__(self, batches: Iterable[Batch | Feeds]):
        self._batches = iter(batches)
        self._lock = threading.Lock()
        self._texts: list[Text] = []
        self._count = 0
        self._stopped = False

    def next(self, on_batch: Callable[[], None]) -> list[Text] | None:
        """The next window of texts; None when there are no more."""
        with self._lock:
            while len(self._texts) < _WINDOW and not self._stopped:
                batch = next(self._batches, None)
                if batch is None:
                    self._stopped = True
                    break
                self._texts += self._split(batch)
                on_batch()
            window, self._texts = self._texts[:_WINDOW], self._texts[_WINDOW:]
            return window or None

    def stop(self) -> None:
        with self._lock:
            self._stopped, self._texts = True, []

    def _split(self, batch: Batch | Feeds) -> Iterator[Text]:
        feeds, rows = (batch.feeds, batch.rows) if isinstance(batch, Batch) else (batch, None)
        mask = np.asarray(feeds["attention_mask"]).astype(bool)
        if mask.ndim != 2:
            raise UsageError(
                "calibration takes batches [texts, sequence]; multiple-choice models are not calibrated yet"
            )
        if rows is None:
            rows = np.arange(self._count, self._count + len(mask))
        self._count += len(mask)
        for number, real, row in zip(range(len(mask)), mask, rows, strict=True):
            if real.any():
                yield Text({k: np.asarray(a)[number][real] for k, a in feeds.items()}, int(row))


def portions(window: list[Text]) -> Iterator[list[Text]]:
    """Texts of similar length together, so many that they take `_TOKENS` tokens with their padding."""
    ordered = sorted(window, key=len)
    for span in spans([len(text) for text in ordered], _TOKENS):
        yield ordered[span]


class _Session:
    """The graph up to the observed values, in ONNX Runtime on one thread a run."""

    def __init__(self, model: ir.Model, names: Sequence[str]):
        import onnxruntime

        if not names:
            raise UsageError("nothing to observe: no values were named")
        copy = model.clone()
        found = ir.convenience.create_value_mapping(copy.graph, include_subgraphs=False)
        for name in names:
            if name not in found or found[name].producer() is None:
                raise UsageError(f"value {name!r} is not computed by the graph")
            shape = found[name].shape
            if shape is not None and shape.rank() and isinstance(getattr(shape[-1], "value", None), str):
                raise UsageError(
                    f"value {name!r}: its last axis has no fixed size, so there are no channels to observe"
                )
        copy.graph.outputs.clear()
        copy.graph.outputs.extend(found[n] for n in names)
        self.names = list(names)
        self.readers = {n: _readers(found[n]) for n in names}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_mem_pattern = False  # one pattern would be kept for every shape that occurs
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            ir.save(copy, path, external_data="model.onnx.data")
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = [i.name for i in self._session.get_inputs()]
        self.batched = True
        self._checked: set[int] = set()
        self._lock = threading.Lock()

    def run(self, texts: Sequence[Text]) -> Iterator[tuple[list[Text], np.ndarray, dict[str, np.ndarray]]]:
        """Texts, their mask bool `[texts, sequence]`, and the values: of all together, or of one after the other."""
        if len(texts) > 1 and self.batched:
            mask, together = self._run(texts)
            if self._same_alone(texts, mask, together):
                yield list(texts), mask, together
                return
            del together
        for one in texts:
            yield [one], *self._run([one])

    def _same_alone(self, texts: Sequence[Text], mask: np.ndarray, together: dict[str, np.ndarray]) -> bool:
        """Whether these may share a run. Of each magnitude of lengths the first ones are compared, bit by bit, with running alone."""
        size = len(texts[-1]).bit_length()
        with self._lock:
            if self.batched and size not in self._checked:
                self._checked.add(size)
                for i, text in enumerate(texts):
                    whole, alone = self._run([text])
                    if not all(np.array_equal(rows(a, mask, i), rows(alone[n], whole, 0)) for n, a in together.items()):
                        self.batched = False
                        break
            return self.batched

    def _run(self, texts: Sequence[Text]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        longest = max(map(len, texts))
        mask = np.arange(longest) < np.array([len(t) for t in texts])[:, None]
        feeds = {}
        for name in self._inputs:
            if name not in texts[0].feeds:
                raise UsageError(f"the model reads {name!r}, which the batches do not hold")
            array = np.zeros(mask.shape, np.int64)
            array[mask] = np.concatenate([t.feeds[name] for t in texts])
            feeds[name] = array
        return mask, dict(zip(self.names, self._session.run(None, feeds), strict=True))


def _readers(value: ir.Value) -> str:
    """Parameters that the value is multiplied with, in words: some values have no module's name."""
    weights = [v.name for use in value.uses() for v in use.node.inputs if v is not None and v.is_initializer()]
    return f" (read by {', '.join(map(str, dict.fromkeys(weights)))})" if weights else ""


def rows(array: np.ndarray, mask: np.ndarray, text: int | None = None) -> np.ndarray:
    """Real rows of a value, `[rows, channels]`, of one text or of all: by token, by token stored back to back, or by text."""
    texts, length = mask.shape
    if array.ndim == 3 and array.shape[1] == 1 < length:
        array = array[:, 0]
    if array.ndim > 2 and array.shape[:2] == mask.shape:
        picked = array[text][mask[text]] if text is not None else array[mask] if not mask.all() else array
    elif array.ndim == 2 and len(array) == mask.size and length > 1:
        picked = array[mask.ravel()] if text is None else array.reshape(texts, length, -1)[text][mask[text]]
    elif array.ndim == 2 and len(array) == texts:
        picked = array if text is None else array[text : text + 1]
    else:
        raise UsageError(
            f"a value of shape {list(array.shape)} has neither tokens nor texts in front; it is not observed"
        )
    return picked.reshape(-1, array.shape[-1])


class _NotFinite(Exception):
    """An activation that is NaN or infinite: of which value, on which text."""

    def __init__(self, name: str, text: Text, what: str):
        super().__init__(name)
        self.name, self.text, self.what = name, text, what


class Sums:
    """Running statistics of one worker; they can be pickled, and merged in any order."""

    def __init__(self, names: Sequence[str], moments: frozenset[str] = frozenset(), *, counted: bool = True):
        self.counted = counted
        self.samples = 0
        self.tokens = 0
        self.histograms = {n: Histogram() for n in names}
        self.low: dict[str, np.ndarray] = {}
        self.high: dict[str, np.ndarray] = {}
        self.moments: dict[str, Moments | None] = dict.fromkeys(sorted(moments))
        self.kept: dict[str, Sample | None] = dict.fromkeys(sorted(moments))

    def add(self, texts: Sequence[Text], mask: np.ndarray, values: dict[str, np.ndarray]) -> None:
        """Counts what one run gave, and lets go of it value by value."""
        self.samples += len(texts)
        self.tokens += int(mask.sum())
        keys = [token_keys(t.feeds["input_ids"]) for t in texts] if self.moments else []
        for name in list(values):
            array = values.pop(name)
            x = rows(array, mask)
            low, high = x.min(axis=0), x.max(axis=0)
            bounds = float(low.min()), float(high.max())
            if not np.isfinite(bounds).all():
                _refuse(name, array, mask, texts)
            if self.counted:
                self.histograms[name].add(x, bounds)
            else:
                self.histograms[name].widen(*bounds)
            self._widen(name, low, high)
            if name in self.moments:
                moments = self.moments[name] = self.moments[name] or Moments(x.shape[1])
                sample = self.kept[name] = self.kept[name] or Sample(x.shape[1])
                for i, key in enumerate(keys):
                    one = rows(array, mask, i)
                    moments.add(one)
                    sample.add(key[: len(one)], one)

    def merge(self, other: "Sums") -> None:
        """Takes in what another worker counted of the same values."""
        self.samples += other.samples
        self.tokens += other.tokens
        for name, histogram in other.histograms.items():
            self.histograms[name].merge(histogram)
            if name in other.low:
                self._widen(name, other.low[name], other.high[name])
        for name, its in other.moments.items():
            mine = self.moments[name]
            if mine is None:
                self.moments[name] = its
            elif its is not None:
                mine.merge(its)
        for name, sample in other.kept.items():
            own = self.kept[name]
            if own is None:
                self.kept[name] = sample
            elif sample is not None:
                own.merge(sample)

    def results(self) -> dict[str, Observation]:
        """The observations; sums of moments are let go of one by one."""
        made = {}
        for name, histogram in self.histograms.items():
            m = self.moments.pop(name, None)
            s = self.kept.pop(name, None)
            made[name] = Observation(
                histogram,
                self.low[name],
                self.high[name],
                moment=m.second_moment() if m is not None else None,
                mean=m.mean() if m is not None else None,
                sample=s.rows if s is not None else None,
            )
        return made

    def _widen(self, name: str, low: np.ndarray, high: np.ndarray) -> None:
        if name in self.low:
            np.minimum(self.low[name], low, out=self.low[name])
            np.maximum(self.high[name], high, out=self.high[name])
        else:
            self.low[name], self.high[name] = low.copy(), high.copy()


def _refuse(name: str, array: np.ndarray, mask: np.ndarray, texts: Sequence[Text]) -> None:
    """Finds the first text where something is not finite."""
    for i, text in enumerate(texts):
        x = rows(array, mask, i)
        if not np.isfinite(x).all():
            raise _NotFinite(name, text, "NaN" if np.isnan(x).any() else "infinite")
