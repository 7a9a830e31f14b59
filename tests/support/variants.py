"""Small canonical models, as they are captured and as passes leave them, for tests that start from there."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch

from headway.calibration.batches import Batch
from headway.calibration.rounding import QuantizedMatrix, nearest
from headway.exporter.capture.capture import capture
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.canonical import canonicalize
from headway.exporter.graph.edit import constant
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.passes.heads import RemoveHeads
from headway.exporter.passes.lowrank import SplitWeights
from headway.exporter.passes.neurons import RemoveNeurons
from headway.exporter.passes.quantize import PER_TOKEN, QuantizeActivations, QuantizeEmbeddings, QuantizeWeights
from headway.exporter.source.source import open_source

from tests.support import models

Feeds = dict[str, np.ndarray]


@cache
def _captured(directory: Path) -> ir.Model:
    captured = capture(open_source(str(directory)))
    return canonicalize(captured.model, longest=captured.source.positions).model


def canonical(directory: Path) -> ir.Model:
    """Return the canonical model of a source's directory: a fresh one, though it is captured once."""
    return _captured(directory).clone()


def feeds(batch: int = 3, length: int = 9, *, padded: bool = True) -> Feeds:
    """Random tokens; with `padded` the second row has a few less."""
    ids = np.random.default_rng(length).integers(5, models.VOCABULARY - 1, (batch, length))
    mask = np.ones_like(ids)
    if padded and batch > 1:
        mask[1, max(1, length - 4) :] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def batch(texts: Sequence[Sequence[int]], first: int = 0, width: int | None = None, filler: int = 0) -> Batch:
    """Texts of token ids, numbered from `first` on; padded with `filler` to the longest, or to `width`."""
    width = width or max(map(len, texts))
    ids, mask = np.full((len(texts), width), filler, np.int64), np.zeros((len(texts), width), np.int64)
    for i, text in enumerate(texts):
        ids[i, : len(text)], mask[i, : len(text)] = text, 1
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return Batch(arrays, np.arange(first, first + len(texts)))


def answers(model: ir.Model, given: Feeds) -> Feeds:
    """Return outputs by torch, operator by operator."""
    with torch.no_grad():
        return {k: v.numpy() for k, v in TorchGraph(model)(given).items()}


def apart(wanted: Feeds, got: Feeds, given: Feeds) -> float:
    """Return the largest difference, at real tokens."""
    mask = given["attention_mask"].astype(bool)
    assert wanted.keys() == got.keys()
    return max(
        float(np.abs(w - got[k])[mask].max() if w.shape[:2] == mask.shape else np.abs(w - got[k]).max())
        for k, w in wanted.items()
    )


def pruned(model: ir.Model) -> ir.Model:
    """Return a copy with heads and neurons of uneven numbers, and one matrix of a low rank."""
    changed = model.clone()
    RemoveHeads({0: [0, 2, 3]})(changed)
    RemoveNeurons({(0, 0): [1, 5, 9, 30, 31, 40, 50]})(changed)
    block = read_anatomy(changed).blocks[-1]
    assert block.attention is not None
    SplitWeights({block.attention.o.weight: 5})(changed)
    return changed


def rounded(model: ir.Model) -> tuple[ir.Model, dict[str, QuantizedMatrix]]:
    """Return a copy with int8 matrices and tables whose values are rounded by token, and the matrices."""
    changed = model.clone()
    anatomy = read_anatomy(changed)
    products = [n for b in anatomy.blocks for p in b.projections for n in p.nodes]
    matrices = {}
    for node in products:
        array = constant(node.inputs[1])
        assert array is not None
        matrices[str(node.inputs[1].name)] = nearest(array, bits=8, block=None)  # type: ignore[union-attr]
    values = {str(n.inputs[0].name): PER_TOKEN for n in products}  # type: ignore[union-attr]
    tables = [name for name in anatomy.embeddings if "word_embeddings" in name]
    QuantizeWeights(matrices)(changed)
    QuantizeEmbeddings(tuple(tables))(changed)
    QuantizeActivations(values)(changed)
    return changed, matrices
