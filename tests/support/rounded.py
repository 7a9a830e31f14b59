"""Batches and distances for tests of quantization."""

import numpy as np
import onnx_ir as ir
import pytest
import torch

from headway.calibration.batches import Batch
from headway.exporter.graph.torch_graph import TorchGraph
from headway.kernels.cpu import library_path

from tests.support import models

needs_kernels = pytest.mark.skipif(library_path() is None, reason="the kernels were not built: no C++ compiler")


def batches(count: int = 6, seed: int = 0) -> list[Batch]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        ids = rng.integers(5, models.VOCABULARY - 1, (4, 6 + 3 * i))
        mask = np.ones_like(ids)
        mask[1, 4:] = 0
        made.append(Batch({"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0}, np.arange(4) + 4 * i))
    return made


def answers(model: ir.Model, batch: Batch) -> np.ndarray:
    with torch.no_grad():
        found = TorchGraph(model)(batch.feeds)
    return next(iter(found.values())).numpy()[batch.mask]


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))
