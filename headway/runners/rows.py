"""Run artifacts for phones on this machine, to check them or to use them in Python.

ExecuTorch's Python runtime takes torch tensors, so torch is imported when a program is opened; LiteRT's takes numpy arrays.
Both take one text at a time: a batch is run row by row.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TargetError
from ..json_file import read_json
from .base import Limits, prepared, put_rows, real_lengths

PROGRAM_FILE = "model.pte"
RECORD_FILE = "model.pte.json"
LITERT_FILE = "model.tflite"
LITERT_RECORD = "model.tflite.json"
SIGNATURE = "tokens_{}"
"""Names of a LiteRT file's signatures, by length in tokens."""


class RowRunner:
    """Runs batches row by row. With `cut_padding`, each row is cut to its real tokens, so outputs do not depend on padding.

    `outputs` are names with the axis of the sequence, None where there is none.
    """

    def __init__(self, inputs: list[str], outputs: list[tuple[str, int | None]], *, max_length: int, cut_padding: bool):
        self.input_names = tuple(inputs)
        self.output_names = tuple(name for name, _ in outputs)
        self.limits = Limits()
        self.max_length = max_length
        self._axes = dict(outputs)
        self._cut = cut_padding
        self._lock = threading.Lock()  # a runtime keeps the results of a call until the next one

    def row(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Run one row: inputs int64 `[1, length]`, outputs in their order, `[1, …]`."""
        raise NotImplementedError

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a batch: inputs int64 `[batch, sequence]`, outputs by name, float32. TargetError for a text that is too long."""
        wanted = prepared(feeds, self.input_names, self.limits)
        shape = next(iter(wanted.values())).shape
        mask = feeds.get("attention_mask")
        lengths = real_lengths(mask) if self._cut and mask is not None else np.full(shape[0], shape[1])
        if lengths.max(initial=0) > self.max_length:
            raise TargetError(
                f"a text of {lengths.max()} tokens is longer than the {self.max_length} that the program takes"
            )
        results: dict[str, np.ndarray] = {}
        for i, length in enumerate(lengths):
            row = {name: np.ascontiguousarray(array[i : i + 1, :length]) for name, array in wanted.items()}
            with self._lock:
                for (name, axis), array in zip(self._axes.items(), self.row(row), strict=True):
                    put_rows(results, name, array, np.array([i]), shape, axis)
        return results


class ExecuTorchRunner(RowRunner):
    """One ExecuTorch program on the runtime of its Python package.

    `threads` is the size of the thread pool that all programs of a process share; None leaves it as it is.
    """

    def __init__(self, program: Path, options: Mapping[str, Any] | None = None, threads: int | None = None):
        try:
            import torch
            from executorch.extension.pybindings import portable_lib
            from executorch.runtime import Runtime
        except ImportError as error:
            raise TargetError(
                f"{program}: its runtime is not installed ({error}): pip install 'headway[executorch]'"
            ) from error
        record = read_json(program.with_name(RECORD_FILE))
        super().__init__(
            record["inputs"],
            [(name, axis) for name, axis in record["outputs"]],
            max_length=record["max_length"],
            cut_padding=bool((options or {}).get("cut_padding")),
        )
        if threads is not None:
            portable_lib._unsafe_reset_threadpool(threads)
        self._tensor = torch.from_numpy
        try:
            self._program = Runtime.get().load_program(program)  # must outlive its method
            self._method = self._program.load_method("forward")
        except Exception as error:  # the runtime raises RuntimeError with an error number
            raise TargetError(f"{program}: ExecuTorch cannot load it: {str(error) or type(error).__name__}") from error

    def row(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Run one row on the program."""
        # The next call overwrites the memory of the results.
        return [t.numpy().copy() for t in self._method.execute([self._tensor(feeds[n]) for n in self.input_names])]


class LiteRtRunner(RowRunner):
    """One LiteRT file. A text is padded to the next of its lengths, and outputs at padded positions are cut off again."""

    def __init__(self, model: Path, threads: int | None = None):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise TargetError(
                f"{model}: its runtime is not installed ({error}): pip install 'headway[litert]'"
            ) from error
        record = read_json(model.with_name(LITERT_RECORD))
        self.lengths = sorted(record["lengths"])
        outputs = [(name, axis) for name, axis in record["outputs"]]
        super().__init__(record["inputs"], outputs, max_length=self.lengths[-1], cut_padding=True)
        self._pad = {"input_ids": record["pad_id"]}
        self._signatures: dict[int, Any] = {}
        try:
            self._interpreter = Interpreter(str(model), num_threads=threads)
        except Exception as error:  # the runtime raises ValueError and RuntimeError
            raise TargetError(f"{model}: LiteRT cannot load it: {str(error) or type(error).__name__}") from error

    def row(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Run one row on the signature of the next length."""
        length = feeds[self.input_names[0]].shape[1]
        bucket = next(n for n in self.lengths if n >= length)
        if bucket not in self._signatures:
            self._signatures[bucket] = self._interpreter.get_signature_runner(SIGNATURE.format(bucket))
        extra = ((0, 0), (0, bucket - length))
        padded = {k: np.pad(v.astype(np.int32), extra, constant_values=self._pad.get(k, 0)) for k, v in feeds.items()}
        results = self._signatures[bucket](**padded)
        return [
            results[name] if axis is None else np.take(results[name], range(length), axis=axis)
            for name, axis in self._axes.items()
        ]
