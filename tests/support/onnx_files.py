"""ONNX files as other exporters write them."""

import itertools
import warnings
from pathlib import Path

import onnx
import torch
import transformers

from tests.support import models

_CLASSES = {
    "text-classification": transformers.AutoModelForSequenceClassification,
    "token-classification": transformers.AutoModelForTokenClassification,
}


def torchscript_file(
    directory: Path,
    family: str,
    opset: int,
    attention: str,
    dtype: torch.dtype = torch.int64,
    task: str = "text-classification",
) -> Path:
    """Return a file as the TorchScript exporter writes it for inputs of `dtype`, beside the tokenizer of its source."""
    models.make_model(directory, family, task)
    model = _CLASSES[task].from_pretrained(directory, attn_implementation=attention).eval()

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=ids, attention_mask=mask).logits

    ids = torch.randint(5, 99, (2, 9), dtype=dtype)
    axes = {0: "batch_size", 1: "sequence_length"}
    path = directory / "model.onnx"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Plain(),
            (ids, torch.ones_like(ids)),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "batch_size"}},
            opset_version=opset,
            dynamo=False,
        )
    return path


def dynamo_file(directory: Path, family: str = "bert", attention: str = "sdpa", opset: int | None = None) -> Path:
    """Return a file as `torch.onnx.export` writes it today where nothing is asked for but `opset`, external data beside it."""
    models.make_model(directory, family, "text-classification", num_hidden_layers=1)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        directory, attn_implementation=attention
    ).eval()
    ids = torch.randint(5, 99, (2, 9))
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    dynamic = torch.export.Dim.DYNAMIC
    path = directory / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            kwargs=given,
            f=str(path),
            dynamo=True,
            input_names=list(given),
            output_names=["logits"],
            dynamic_shapes={name: {0: dynamic, 1: dynamic} for name in given},
            opset_version=opset,
            verbose=False,
        )
    return path


def with_automatic_names(path: Path) -> Path:
    """Give every free axis of a file's inputs and outputs a name of its own, as converters from TensorFlow do; return the file.

    Shapes of inner values go, as they do where a tool saves a file anew.
    """
    model, numbers = onnx.load(path), itertools.count(1)
    del model.graph.value_info[:]
    for value in [*model.graph.input, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.dim_param = f"unk__{next(numbers)}"
    onnx.save(model, path)
    return path


def pooled_file(directory: Path) -> Path:
    """Return a file of an encoder with the mean of its tokens, whose outputs' axes have the exporter's own names."""
    models.make_model(directory, "bert", num_hidden_layers=2)
    encoder = transformers.AutoModel.from_pretrained(directory, attn_implementation="eager").eval()

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            wide = mask.unsqueeze(-1).expand(hidden.size()).float()
            return hidden, (hidden * wide).sum(1) / torch.clamp(wide.sum(1), min=1e-9)

    ids, axes = torch.randint(5, 99, (2, 9)), {0: "batch_size", 1: "sequence_length"}
    path = directory / "model.onnx"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Pooled(),
            (ids, torch.ones_like(ids)),
            str(path),
            input_names=["input_ids", "attention_mask"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes},
            opset_version=17,
            dynamo=False,
        )
    return path
