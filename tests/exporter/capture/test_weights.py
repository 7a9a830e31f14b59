"""NaN and infinity in weights are named before anything is exported, also where no text touches them."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx_ir as ir
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression

from headway.errors import SourceError
from headway.exporter.capture.capture import capture, load_reference
from headway.exporter.capture.weights import refuse
from headway.exporter.source.source import open_source

from tests.checkpoints.word_models import make_word_model
from tests.support.models import make_sentence_model
from tests.support.onnx_files import torchscript_file
from tests.support.retrieval_models import static


def test_a_row_that_no_text_touches(bert: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(bert, tmp_path / "model"))
    tensors = load_file(directory / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"][299, :3] = torch.tensor([float("nan"), float("inf"), float("nan")])
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        SourceError, match=r"embeddings\.word_embeddings\.weight has 2 NaN and 1 infinite of 9600 values"
    ):
        load_reference(open_source(str(directory)))


def spoiled(file: Path, name: str) -> Path:
    """Put one NaN into a tensor of a file; return the file."""
    tensors = load_file(file)
    tensors[name].view(-1)[-1] = float("nan")
    save_file(tensors, file, {"format": "pt"})
    return file


def refusal(directory: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as refused, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_reference(open_source(str(directory), **options))
    return str(refused.value)


@pytest.mark.parametrize(("tensor", "size"), [("linear.weight", 24 * 32), ("linear.bias", 24)])
def test_a_module_behind_the_encoder(tensor: str, size: int, tmp_path: Path) -> None:
    spoiled(make_sentence_model(tmp_path, dense=True) / "2_Dense" / "model.safetensors", tensor)
    assert f"{tmp_path}: the tensor {tensor} of 2_Dense has 1 NaN of {size} values" in refusal(tmp_path)


def test_the_head_of_setfit(tmp_path: Path) -> None:
    body, rng = make_sentence_model(tmp_path, normalize=False), np.random.default_rng(0)
    head = LogisticRegression().fit(rng.normal(size=(60, 32)), np.arange(60) % 3)
    head.coef_[1, :2] = np.nan, np.inf
    joblib.dump(head, body / "model_head.pkl")
    said = refusal(body, allow_pickle=True)
    assert f"{body}: the tensor linear.weight of model_head.pkl has 1 NaN and 1 infinite of 96 values" in said


def test_static_embeddings(tmp_path: Path) -> None:
    file = spoiled(static(tmp_path) / "model.safetensors", "embedding.weight")
    size = load_file(file)["embedding.weight"].numel()
    assert f"the tensor embedding.weight has 1 NaN of {size} values" in refusal(tmp_path / "model")


def test_a_table_of_words_and_what_reads_it(tmp_path: Path) -> None:
    make_word_model(tmp_path / "words", ["CNN"])
    spoiled(tmp_path / "words" / "1_CNN" / "model.safetensors", "convs.1.bias")
    assert "the tensor convs.1.bias of 1_CNN has 1 NaN of 12 values" in refusal(tmp_path / "words")
    spoiled(tmp_path / "words" / "model.safetensors", "emb_layer.weight")
    assert f"the tensor emb_layer.weight has 1 NaN of {28 * 16} values" in refusal(tmp_path / "words")


def test_the_module_of_a_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "factory_of_nan.py").write_text(
        "import torch\n"
        "class Plain(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.table, self.head = torch.nn.Embedding(300, 8), torch.nn.Linear(8, 3)\n"
        "        torch.nn.init.constant_(self.head.bias, float('nan'))\n"
        "    def forward(self, input_ids, attention_mask):\n"
        "        return {'logits': self.head(self.table(input_ids).mean(1))}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=r"factory_of_nan:Plain: the tensor head\.bias has 3 NaN of 3 values"):
        load_reference(open_source("factory_of_nan:Plain", task="text-classification"))


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
