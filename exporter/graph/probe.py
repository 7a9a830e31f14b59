"""Find out what a subgraph computes by running it on chosen inputs.

Exporters write the same attention mask in many ways (chains of `Range`, `GatherND`, `And`, `Where`, `Trilu` that change
with every release). Patterns cannot cover them all. Running the subgraph on chosen masks, and comparing the result with the
few functions that a mask can be, is exact on those masks and does not depend on how it is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime

from ...errors import SourceError
from ...scratch import scratch


@dataclass
class Prober:
    """Run parts of one graph. `vocabulary` bounds the token ids used as probes."""

    model: ir.Model
    vocabulary: int

    def run(
        self, values: Sequence[ir.Value], feeds: Mapping[str, np.ndarray], given: Sequence[ir.Value] = ()
    ) -> list[np.ndarray]:
        """Compute `values` from the graph inputs in `feeds`, where those `given` are fed, too, in the place of being computed.

        Raise SourceError where that part of the graph does not run.
        """
        return self.runs(values, [feeds], given)[0]

    def runs(
        self, values: Sequence[ir.Value], several: Sequence[Mapping[str, np.ndarray]], given: Sequence[ir.Value] = ()
    ) -> list[list[np.ndarray]]:
        """Compute `values` as `run` does, once for each of `several` feeds."""
        graph = self.model.graph
        inputs = [*graph.inputs, *given]  # all of them: the body of a subgraph may read one without naming it
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            part = ir.Model(
                ir.convenience.extract(graph, inputs, list(values)),
                ir_version=self.model.ir_version,
                functions=list(self.model.functions.values()),
            )
            with scratch() as folder:
                # Weights go into a file of their own: they may be larger than one protobuf message can be.
                path = Path(folder) / "part.onnx"
                ir.save(part, path, external_data="part.data")
                session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
                return [session.run(None, {i.name: feeds[i.name] for i in inputs if i.name}) for feeds in several]
        except Exception as error:  # onnx_ir raises ValueError, onnxruntime its own unrelated exception types
            raise SourceError(f"the part of the graph that makes {values[0].name!r} does not run: {error}") from error

    def feeds(self, mask: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        """Return inputs of the model for one attention mask `[batch, sequence]`; token ids are random."""
        rng = np.random.default_rng(seed)
        arrays = {}
        for graph_input in self.model.graph.inputs:
            name = graph_input.name or ""
            if "mask" in name:
                array = mask
            elif name == "input_ids":
                array = rng.integers(3, max(self.vocabulary, 4), mask.shape)
            else:
                array = np.zeros(mask.shape)
            dtype = graph_input.dtype.numpy() if graph_input.dtype is not None else np.dtype(np.int64)
            if graph_input.shape is not None and len(graph_input.shape) == 3:
                array = array[:, None, :]  # [batch, choices, sequence] with one choice each
            arrays[name] = array.astype(dtype)
        return arrays

    def number(self, value: ir.Value) -> float | None:
        """Return the number that `value` equals at two input shapes; None where it varies."""
        results = [
            self.run([value], self.feeds(np.ones(shape, np.int64), seed))[0]
            for seed, shape in enumerate([(1, 3), (2, 6)])
        ]
        if any(r.size != 1 for r in results) or float(results[0].reshape(())) != float(results[1].reshape(())):
            return None
        return float(results[0].reshape(()))

    def fixed_dims(self, value: ir.Value) -> list[int | None]:
        """Return the sizes of `value` that are the same at two input shapes; None for the others."""
        first, second = (
            self.run([value], self.feeds(np.ones(shape, np.int64), seed))[0].shape
            for seed, shape in enumerate([(1, 3), (2, 6)])
        )
        return [a if a == b else None for a, b in zip(first, second, strict=True)]

    def swaps_last_axes(self, source: ir.Value, value: ir.Value) -> bool:
        """Return whether `value`, computed from `source` `[batch, heads, sequence, head_dim]`, is that with its last axes swapped."""
        sizes: list = list(source.shape or ())
        if len(sizes) != 4 or not isinstance(sizes[1], int) or not isinstance(sizes[3], int):
            sizes = self.fixed_dims(source)
        if len(sizes) != 4 or sizes[1] is None or sizes[3] is None:
            return False
        feeds = self.feeds(np.ones((2, 5), np.int64))
        array = np.random.default_rng(0).standard_normal((2, sizes[1], 5, sizes[3])).astype(np.float32)
        (result,) = self.run([value], feeds | {str(source.name): array}, [source])
        return np.array_equal(result, array.swapaxes(2, 3))
