"""Save checkpoints as a compression tool does, and compare what is captured with the tool's own forward pass."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from headway.errors import SourceError
from headway.exporter.capture.capture import capture_canonical, load_reference
from headway.exporter.source.source import Source, open_source

from tests.support import models
from tests.support.refused_at_once import at_once
from tests.support.variants import answers, apart, feeds

ROUNDING = 2e-5
"""Float32 arithmetic in another order, on activations of the size of 1."""


def base(directory: Path, family: str = "bert", task: str = "feature-extraction", **changes: Any) -> Any:
    """Write a tiny model with its tokenizer, and return its torch module, which a test compresses and saves there again."""
    models.make_model(directory, family, task, **changes)
    kind = models.model_class(family, task)
    assert kind is not None
    return kind.from_pretrained(directory, attn_implementation="eager").eval()


def save(directory: Path, state: Mapping[str, torch.Tensor], **config: Any) -> Path:
    """Replace the tensors of a directory, and settings of its config; those given as None are deleted."""
    save_file(
        {k: v.detach().clone().contiguous() for k, v in state.items()},
        directory / "model.safetensors",
        {"format": "pt"},
    )
    path = directory / "config.json"
    settings = json.loads(path.read_text()) | config
    path.write_text(json.dumps({k: v for k, v in settings.items() if not (k in config and v is None)}))
    return directory


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def forward(model: Any) -> dict[str, np.ndarray]:
    """Return what a torch module of transformers computes of `feeds()`, by output name."""
    given = {k: torch.from_numpy(v) for k, v in feeds().items()}
    if isinstance(model, transformers.DistilBertPreTrainedModel | transformers.MPNetPreTrainedModel):
        del given["token_type_ids"]
    with torch.no_grad():
        results = model(**given)
    names = ("last_hidden_state", "logits", "start_logits", "end_logits")
    return {n: results[n].numpy() for n in names if n in results}


def captured(directory: Path) -> tuple[Source, ir.Model]:
    """Return the source and its canonical graph."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return capture_canonical(str(directory))


def same_answers(
    directory: Path, wanted: Mapping[str, np.ndarray], *, within: float = ROUNDING
) -> tuple[Source, ir.Model]:
    """Assert that the captured graph gives what the tool's own forward pass gave; return the source and the graph."""
    source, model = captured(directory)
    difference = apart(dict(wanted), answers(model, feeds()), feeds())
    assert difference < within, difference
    return source, model


def refusal(directory: Path) -> str:
    """Return the sentence by which a source is refused: at once, and before a tensor is read."""
    with at_once() as refused, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(SourceError) as caught:
            load_reference(open_source(str(directory)))
        refused.append(caught.value)
    return str(caught.value)
