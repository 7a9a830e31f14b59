"""Inputs and outputs by which tests of passes compare models."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch

from headway.exporter.graph.torch_graph import TorchGraph

from tests.support import models

SHAPE = (3, 9)


def feeds(task: str = "") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    mask = np.ones(SHAPE, np.int64)
    mask[1, 5:] = 0
    return {
        "input_ids": rng.integers(5, models.VOCABULARY - 1, SHAPE),
        "attention_mask": mask,
        "token_type_ids": np.zeros(SHAPE, np.int64),
    }


def answers(model: ir.Model, hooks: dict | None = None) -> dict[str, np.ndarray]:
    """Return outputs at real tokens, by torch."""
    mask = feeds()["attention_mask"].astype(bool)
    with torch.no_grad():
        results = TorchGraph(model)(feeds(), hooks)
    return {k: v.numpy()[mask] if v.shape[:2] == SHAPE else v.numpy() for k, v in results.items()}


def by_runtime(model: ir.Model) -> dict[str, np.ndarray]:
    settings = onnxruntime.SessionOptions()
    settings.add_session_config_entry("session.disable_quant_qdq", "1")  # sums of bytes saturate where x86 has no VNNI
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    mask = feeds()["attention_mask"].astype(bool)
    values = session.run(None, {i.name: feeds()[i.name] for i in session.get_inputs()})
    return {o.name: v[mask] if v.shape[:2] == SHAPE else v for o, v in zip(session.get_outputs(), values, strict=True)}


def gate(open_indices: np.ndarray) -> Callable[[torch.Tensor], torch.Tensor]:
    def close(x: torch.Tensor) -> torch.Tensor:
        open_ones = torch.zeros(x.shape[-1])
        open_ones[open_indices] = 1
        return x * open_ones

    return close


def largest_difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    assert a.keys() == b.keys()
    return max(float(np.abs(a[k] - b[k]).max()) for k in a)
