"""Run a graph up to the observed values in ONNX Runtime, texts together where that changes no bit of their activations."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..errors import UsageError
from ..scratch import scratch
from .feed import TokenizedText, real_rows

Run = tuple[list[TokenizedText], np.ndarray, dict[str, np.ndarray]]
"""Texts of one run, their mask bool `[texts, sequence]`, and the activations by value name."""


def save_up_to(model: ir.Model, names: Sequence[str], path: Path) -> dict[str, str]:
    """Write the graph up to the values in `names` to `path`, its weights to `path` with `.data`; return what reads each, in words.

    UsageError names a value that the graph does not compute, or that has no channels.
    """
    if not names:
        raise UsageError("nothing to observe: no values were named")
    copy = model.clone()
    values = ir.convenience.create_value_mapping(copy.graph, include_subgraphs=False)
    for name in names:
        if name not in values or values[name].producer() is None:
            raise UsageError(f"value {name!r} is not computed by the graph")
        shape = values[name].shape
        if shape is not None and shape.rank() and isinstance(getattr(shape[-1], "value", None), str):
            raise UsageError(f"value {name!r}: its last axis has no fixed size, so there are no channels to observe")
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(values[n] for n in names)
    readers = {n: _readers(values[n]) for n in names}
    ir.save(copy, path, external_data=f"{path.name}.data")
    return readers


class Session:
    """The graph up to the observed values, in ONNX Runtime on one thread per run."""

    def __init__(self, path: Path, names: Sequence[str], readers: Mapping[str, str]):
        import onnxruntime

        self.names = list(names)
        self.readers = dict(readers)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_mem_pattern = False  # one pattern would be kept for every shape that occurs
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = [i.name for i in self._session.get_inputs()]
        self.batched = True
        self._checked: set[int] = set()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, model: ir.Model, names: Sequence[str]) -> "Session":
        """Open a model's graph up to the values in `names`. UsageError as `save_up_to` raises it."""
        with scratch() as folder:
            path = Path(folder) / "model.onnx"
            return cls(path, names, save_up_to(model, names, path))

    def run(self, texts: Sequence[TokenizedText]) -> Iterator[Run]:
        """Yield the activations of all texts together, or of one text after the other where together they would differ."""
        if len(texts) > 1 and self.batched:
            mask, together = self._run(texts)
            if self._same_alone(texts, mask, together):
                yield list(texts), mask, together
                return
            del together
        for text in texts:
            yield [text], *self._run([text])

    def _same_alone(self, texts: Sequence[TokenizedText], mask: np.ndarray, together: dict[str, np.ndarray]) -> bool:
        """Return whether these texts may share a run.

        For each magnitude of lengths, the first texts that occur are compared bit by bit with the same texts alone.
        """
        size = len(texts[-1]).bit_length()
        with self._lock:
            if self.batched and size not in self._checked:
                self._checked.add(size)
                for i, text in enumerate(texts):
                    own_mask, alone = self._run([text])
                    if not all(
                        np.array_equal(real_rows(a, mask, i), real_rows(alone[n], own_mask, 0))
                        for n, a in together.items()
                    ):
                        self.batched = False
                        break
            return self.batched

    def _run(self, texts: Sequence[TokenizedText]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
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
    """Return, in words, the weights that the value is multiplied with: some values have no module's name."""
    weights = [v.name for use in value.uses() for v in use.node.inputs if v is not None and v.is_initializer()]
    return f" (read by {', '.join(map(str, dict.fromkeys(weights)))})" if weights else ""
