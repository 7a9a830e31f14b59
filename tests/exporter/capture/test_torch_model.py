"""Directories and factories as torch models, and what fails in them."""

from pathlib import Path

import numpy as np
import pytest

from headway.errors import SourceError
from headway.exporter.capture.capture import load_reference
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.source import open_source

from tests.support import models
from tests.support.refusals import edit_config, refused


def test_a_source_that_does_not_run_itself(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise IndexError("index out of range in self")

    source = open_source(str(copy))
    reference, _ = load_reference(source)
    monkeypatch.setattr(reference.module.model, "forward", fails)  # type: ignore[attr-defined]
    ids = np.ones((1, 3), np.int64)
    with pytest.raises(SourceError, match="out of range"):
        reference.run({"input_ids": ids, "attention_mask": ids, "token_type_ids": ids * 0})


def without(directory: Path, *names: str) -> Path:
    """Remove tensors from a checkpoint."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    for name in names:
        del tensors[name]
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("bert", "bert.pooler.dense.weight"),
        ("bert", "bert.encoder.layer.1.output.dense.bias"),
        ("bert", "classifier.weight"),
        ("deberta-v2", "pooler.dense.bias"),
    ],
)
def test_a_tensor_that_the_task_needs_and_the_checkpoint_lacks_is_named(family: str, name: str, tmp_path: Path) -> None:
    """Whatever its name: transformers would fill it with random numbers."""
    source = without(models.make_model(tmp_path / "model", family, "text-classification"), name)
    with pytest.raises(SourceError, match=name.replace(".", r"\.")):
        load_reference(open_source(str(source), task="text-classification"))


def test_the_pooler_of_a_model_without_a_head_may_be_missing(copy: Path, bert: Path) -> None:
    """It gives none of the outputs."""
    ids = np.array([[1, 7, 9, 2]])
    feeds = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    without(copy, "pooler.dense.weight", "pooler.dense.bias")
    outputs = [load_reference(open_source(str(d)))[0].run(feeds) for d in (bert, copy)]
    np.testing.assert_array_equal(outputs[0]["last_hidden_state"], outputs[1]["last_hidden_state"])


def test_a_source_that_asks_for_tuples_gives_the_same_outputs(copy: Path, bert: Path) -> None:
    edit_config(copy, return_dict=False)
    ids = np.array([[1, 7, 9, 2]])
    feeds = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    wanted, got = (load_reference(open_source(str(d)))[0].run(feeds) for d in (bert, copy))
    assert list(got) == ["last_hidden_state"]
    np.testing.assert_array_equal(got["last_hidden_state"], wanted["last_hidden_state"])


def test_factories(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_models.py").write_text(
        "import transformers\n"
        f"def good():\n    return transformers.AutoModel.from_pretrained({str(bert)!r}), {str(bert)!r}\n"
        "def bad():\n    raise RuntimeError('no weights today')\n"
        "def odd():\n    return 7\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert export(Recipe(source="my_models:good"), tmp_path / "out").parity.ok
    assert "no weights today" in str(refused("my_models:bad", tmp_path / "out2"))
    assert "int" in str(refused("my_models:odd", tmp_path / "out2"))


def test_a_factory_of_a_plain_module(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without config and `return_dict`, in float16; one that gives no dict is refused."""
    (tmp_path / "plain_models.py").write_text(
        "import torch\n"
        "class Plain(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.table, self.head = torch.nn.Embedding(300, 8), torch.nn.Linear(8, 3)\n"
        "    def forward(self, input_ids, attention_mask):\n"
        "        mask = attention_mask[:, :, None].to(self.table.weight.dtype)\n"
        "        return {'logits': self.head((self.table(input_ids) * mask).sum(1) / mask.sum(1))}\n"
        "class Bare(Plain):\n"
        "    def forward(self, input_ids, attention_mask):\n"
        "        return super().forward(input_ids, attention_mask)['logits']\n"
        f"def plain():\n    torch.manual_seed(0)\n    return Plain().half(), {str(bert)!r}\n"
        f"def bare():\n    return Bare(), {str(bert)!r}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    done = export(Recipe(source="plain_models:plain", task="text-classification"), tmp_path / "out")
    assert done.parity.ok and done.manifest.outputs[0].dtype == "float32"
    refusal = refused("plain_models:bare", tmp_path / "out2", task="text-classification")
    assert "Tensor" in str(refusal) and "logits" in str(refusal)
