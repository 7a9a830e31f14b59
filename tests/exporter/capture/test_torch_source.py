"""Directories and factories as torch models, and what fails in them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import transformers

from headway.errors import SourceError
from headway.exporter.capture.capture import load_reference
from headway.exporter.capture.torch_source import _load_transformers
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.source import Source, open_source

from tests.support.refusals import edit_config, refused

T5 = {"vocab_size": 300, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}


def test_a_source_that_does_not_run_itself(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise IndexError("index out of range in self")

    source = open_source(str(copy))
    reference, _ = load_reference(source)
    monkeypatch.setattr(reference.module.model, "forward", fails)  # type: ignore[attr-defined]
    ids = np.ones((1, 3), np.int64)
    with pytest.raises(SourceError, match="out of range"):
        reference.run({"input_ids": ids, "attention_mask": ids, "token_type_ids": ids * 0})


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


def test_the_class_that_architectures_names_is_loaded(tmp_path: Path) -> None:
    config = transformers.T5Config(**T5)
    directory = tmp_path / "t5"
    transformers.T5EncoderModel(config).save_pretrained(directory)
    source = Source(
        "huggingface", "t5", "feature-extraction", directory, json.loads((directory / "config.json").read_text())
    )
    assert type(_load_transformers(source)) is transformers.T5EncoderModel
    transformers.T5Model(config).save_pretrained(directory)
    config = json.loads((directory / "config.json").read_text())
    with pytest.raises(SourceError, match="T5Model is an encoder with a decoder"):
        _load_transformers(replace(source, config=config))


@pytest.mark.parametrize("as_string", [False, True])
def test_architectures_may_be_one_string(bert_classifier: Path, tmp_path: Path, as_string: bool) -> None:
    directory = Path(shutil.copytree(bert_classifier, tmp_path / "model"))
    name = "BertForSequenceClassification"
    edit_config(directory, architectures=name if as_string else [name])
    reference, source = load_reference(open_source(str(directory)))
    assert source.task == "text-classification"
    assert type(reference.module.model).__name__ == name  # type: ignore[attr-defined]


def test_an_adapter_without_its_tensors_or_its_base_is_refused(copy: Path, tmp_path: Path) -> None:
    settings = {"peft_type": "LORA", "base_model_name_or_path": "owner/base"}
    (copy / "adapter_config.json").write_text(json.dumps(settings))
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "adapter_config.json").write_text(json.dumps(settings))
    for directory, says in ((copy, "whose tensors are not here"), (tmp_path / "alone", "which is no directory here")):
        message = str(refused(directory, tmp_path / "out"))
        assert "an adapter (LORA) for owner/base" in message and says in message


def test_a_task_that_pools_needs_a_list_of_modules(copy: Path) -> None:
    with pytest.raises(SourceError, match=r"modules\.json"):
        load_reference(open_source(str(copy), task="sentence-embedding"))
