"""One tiny classifier in the forms in which other tools write it, and what has to hold of each when it is read."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime

from headway.exporter.capture.base import Captured
from headway.exporter.capture.capture import canonical_of, capture
from headway.exporter.graph.anatomy import describe, read_anatomy
from headway.exporter.graph.decompose import decompose_attention
from headway.exporter.source.source import open_source

RNG = np.random.default_rng(0)
MASK = np.array([[1] * 9, [1] * 5 + [0] * 4, [1] * 7 + [0] * 2])
FEEDS = {"input_ids": RNG.integers(5, 99, MASK.shape), "attention_mask": MASK}
WEIGHTS = 12
"""Matmuls in the blocks of a model of two layers."""


def read(path: Path) -> tuple[Captured, ir.Model]:
    """Return what is captured of a file, and its canonical graph."""
    captured = capture(open_source(str(path)))
    return captured, canonical_of(captured).model


def run(model: ir.Model, feeds: dict[str, np.ndarray] = FEEDS) -> np.ndarray:
    """Return the first output of a graph as it is written, in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})[0]


def file_outputs(path: Path) -> np.ndarray:
    """Return what the file itself gives."""
    return run(ir.load(path))


def anatomy_of(model: ir.Model) -> dict:
    """Return blocks, heads and sizes, without the names of weights."""
    described = describe(read_anatomy(model))
    return {k: v for k, v in described.items() if k in ("blocks", "vocabulary")}


def stored(model: ir.Model, dtype: ir.DataType = ir.DataType.INT8) -> dict[str, np.ndarray]:
    """Return the integers of a graph's weights and embeddings by name."""
    found = {
        n: v.const_value for n, v in model.graph.initializers.items() if v.dtype == dtype and len(v.shape or ()) == 2
    }
    return {n: t.numpy() for n, t in found.items() if t is not None}


def constants(path: Path) -> list[np.ndarray]:
    """Return the content of all initializers of a file."""
    return [v.const_value.numpy() for v in ir.load(path).graph.initializers.values() if v.const_value is not None]


def written_out(model: ir.Model) -> ir.Model:
    """Return a copy whose attention is in separate operators."""
    copy = ir.from_proto(ir.to_proto(model))
    decompose_attention(copy)
    return copy
