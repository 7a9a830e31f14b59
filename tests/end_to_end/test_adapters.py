"""A model with an adapter is exported, and verified against both."""

import shutil
from pathlib import Path

import pytest
import torch
import transformers

import headway
from headway.errors import SourceError, UsageError

from tests.checkpoints.adapters import LoraLinear, adapt, save_adapter

QUERY = "encoder.layer.0.attention.self.query"


def test_a_bundle_names_its_adapters_and_is_verified_with_them(bert: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(bert, tmp_path / "base"))
    model = transformers.AutoModel.from_pretrained(base)
    torch.manual_seed(0)
    tensors = adapt(model, {QUERY: LoraLinear(model.get_submodule(QUERY), 4, 8)})
    adapter = save_adapter(tmp_path / "one", tensors, base)
    out = tmp_path / "bundles" / "bundle"
    exported = headway.export(base, out, adapters=[str(adapter)])
    assert exported.manifest.source["form"] == ["LoRA adapter one of rank 4 merged into 1 layers"]
    assert "adapters:\n- one\n" in (out / "recipe.yaml").read_text()
    verdict = headway.verify(out, against=base, adapters=[adapter])
    assert verdict.ok
    with pytest.raises(UsageError, match=r"its adapters one is neither here nor beside the bundle.*--adapter"):
        headway.verify(out, against=base)
    save_adapter(adapter, {name: t * 2 for name, t in tensors.items()}, base)
    with pytest.raises(SourceError, match="is not the model"):
        headway.verify(out, against=base, adapters=[adapter])
    assert headway.inspect(base, adapters=[adapter])["form"] == exported.manifest.source["form"]
    with pytest.raises(UsageError, match="adapters are merged into a model before"):
        headway.inspect(out, adapters=[adapter])
