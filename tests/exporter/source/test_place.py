"""Models are found whose parts lie in two directories, or under names of their own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from headway.errors import SourceError, UsageError
from headway.exporter.capture.capture import load_reference
from headway.exporter.source.place import base_of, locate, with_base
from headway.exporter.source.source import open_source

from tests.checkpoints.adapters import save_adapter
from tests.checkpoints.gguf_files import bert_metadata, bert_tensors, pieces_of, write_gguf
from tests.support.variants import feeds

FACTORS = {
    "encoder.layer.0.attention.self.query.lora_A.weight": torch.ones(4, 32),
    "encoder.layer.0.attention.self.query.lora_B.weight": torch.zeros(32, 4),
}


def test_an_adapter_names_its_base(bert: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "one", FACTORS, bert)
    complete, inside = base_of(adapter)
    assert inside == adapter
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in complete.iterdir()}
    assert not (complete / "adapter_config.json").exists()
    assert with_base(bert) == (bert, (), None)


def test_a_base_that_is_not_here_is_named(tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "one", FACTORS, Path("owner/base"))
    with pytest.raises(SourceError, match=r"an adapter \(LORA\) for owner/base, which is no directory here.*--adapter"):
        open_source(str(adapter))


def test_what_adapters_cannot_be_merged_into_is_refused(bert: Path, tmp_path: Path) -> None:
    for spec in ("some.module:model", "some.onnx"):
        with pytest.raises(UsageError, match="adapters are merged into a model's directory"):
            open_source(spec, adapters=[str(tmp_path)])
    with pytest.raises(SourceError, match="this is no adapter of peft"):
        open_source(str(bert), adapters=[str(tmp_path)])


@pytest.mark.parametrize("how", ["directory", "file", "trainer", "script"])
def test_state_dicts_under_any_name(how: str, bert: Path, copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    model = transformers.AutoModel.from_pretrained(bert, attn_implementation="eager").eval()
    path = copy / ("last.ckpt" if how == "trainer" else "student.pt")
    if how == "script":
        wrapped = torch.jit.trace(model, (torch.ones(1, 4, dtype=torch.long),), strict=False)
        torch.jit.save(wrapped, path)
    else:
        torch.save({"state_dict": model.state_dict()} if how == "trainer" else model.state_dict(), path)
    spec = str(copy if how in ("directory", "script") else path)
    with pytest.raises(SourceError, match="--allow-pickle"):
        open_source(spec)
    reference, source = load_reference(open_source(spec, allow_pickle=True))
    assert source.sentences[0] == f"weights of {path.name}"
    with torch.no_grad():
        wanted = model(**{k: torch.from_numpy(v) for k, v in feeds().items()})["last_hidden_state"].numpy()
    assert np.abs(reference.run(feeds())["last_hidden_state"] - wanted).max() < 1e-5


def test_a_weight_file_needs_its_config(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "student.pt")
    with pytest.raises(SourceError, match=r"no config\.json"):
        open_source(str(tmp_path / "student.pt"), allow_pickle=True)


def test_a_setting_that_says_nothing_here_stays_refused(copy: Path) -> None:
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_ema": True}))
    with pytest.raises(SourceError, match="use_ema"):
        load_reference(open_source(str(copy)))


def test_files_of_adapters_are_checked_as_weights_are(bert: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "one", FACTORS, bert)
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:3])
    with pytest.raises(SourceError, match="3 bytes are no safetensors file"):
        open_source(str(bert), adapters=[str(adapter)])
    file.unlink()
    torch.save({f"base_model.model.{name}": tensor for name, tensor in FACTORS.items()}, adapter / "adapter_model.bin")
    with pytest.raises(SourceError, match="--allow-pickle"):
        open_source(str(bert), adapters=[str(adapter)])
    assert open_source(str(bert), adapters=[str(adapter)], allow_pickle=True).sentences


@pytest.mark.parametrize("named", [True, False])
def test_a_file_of_another_runtime_is_located(named: bool, bert: Path, tmp_path: Path) -> None:
    model, tokenizer = transformers.AutoModel.from_pretrained(bert), transformers.AutoTokenizer.from_pretrained(bert)
    metadata = bert_metadata(model, pieces_of(tokenizer), **{"bert.pooling_type": 2})
    file = write_gguf(tmp_path / "model.gguf", metadata, bert_tensors(model))
    directory, modules, place = locate(tmp_path, [], file=file if named else None, allow_pickle=False)
    assert (place.directory, place.files) == (directory, (file,)) and (directory / "config.json").is_file()
    assert [module.kind for module in modules] == ["Transformer", "Pooling"]
    assert place.stored is not None  # the tensors are read already
