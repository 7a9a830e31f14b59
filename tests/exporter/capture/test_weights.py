"""NaN and infinity in weights are named before anything is exported, also where no text touches them."""

import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from safetensors.torch import load_file, save_file

from headway.errors import SourceError
from headway.exporter.capture.capture import capture, load_reference
from headway.exporter.capture.weights import refuse
from headway.exporter.source.source import open_source

from tests.support.onnx_files import torchscript_file


def test_a_row_that_no_text_touches(bert: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(bert, tmp_path / "model"))
    tensors = load_file(directory / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"][299, :3] = torch.tensor([float("nan"), float("inf"), float("nan")])
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        SourceError, match=r"embeddings\.word_embeddings\.weight has 2 NaN and 1 infinite of 9600 values"
    ):
        load_reference(open_source(str(directory)))


def test_an_onnx_file(tmp_path: Path) -> None:
    path = torchscript_file(tmp_path, "bert", 17, "sdpa")
    model = ir.load(path)
    value = next(v for n, v in model.graph.initializers.items() if n.endswith("word_embeddings.weight"))
    array = value.const_value.numpy().copy()  # type: ignore[union-attr]
    array[-1, 0] = np.inf
    value.const_value = ir.Tensor(array, name=value.name)
    ir.save(model, path)
    with pytest.raises(SourceError, match=r"word_embeddings\.weight has 1 infinite of"):
        capture(open_source(str(path)))


def test_what_may_hold_infinity() -> None:
    mask = torch.tensor([0.0, float("-inf")])
    refuse("here", "mask", mask, infinity=False)
    refuse("here", "ids", torch.tensor([1, 2]))
    with pytest.raises(SourceError, match=r"here: the tensor mask has 1 infinite of 2"):
        refuse("here", "mask", mask)
    with pytest.raises(SourceError, match=r"1 NaN of 1"):
        refuse("here", "mask", torch.tensor([float("nan")]), infinity=False)
