"""A bundle with a trimmed vocabulary."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from headway import Bundle
from headway.exporter.export import export
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.recipe.recipe import make_recipe

from tests.support import models
from tests.support.trimmed import CORPUS
from tests.support.variants import canonical


@pytest.mark.parametrize(("family", "task"), [("bert", "fill-mask"), ("roberta", "feature-extraction")])
def test_a_trimmed_bundle_answers_as_its_source(family: str, task: str, tmp_path: Path) -> None:
    directory = models.make_model(tmp_path / "model", family, task)
    (tmp_path / "text.txt").write_text("\n".join(CORPUS * 2))
    recipe = make_recipe(
        "test", source=str(directory), data=tmp_path / "text.txt", passes=[{"kind": "trim_vocabulary"}]
    )
    done = export(recipe, tmp_path / "bundle")
    assert done.manifest.compression is not None
    stage = done.manifest.compression["stages"][-1]
    assert stage["quality"] == pytest.approx(100, abs=1e-3) and stage["paid"] is True
    bundle = Bundle.open(tmp_path / "bundle")
    bundle.check_files()
    assert json.loads((tmp_path / "bundle" / "config.json").read_text())["vocab_size"] < 300
    name = done.manifest.outputs[0].name
    found = bundle(CORPUS)[name]
    source = canonical(directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    feeds = {k: np.array(v) for k, v in tokenizer(CORPUS, padding=True).items()}
    feeds.setdefault("token_type_ids", np.zeros_like(feeds["input_ids"]))
    with torch.no_grad():
        wanted = TorchGraph(source)(feeds)[name].numpy()
    mask = feeds["attention_mask"].astype(bool)
    if task == "fill-mask":
        assert found.shape[-1] < wanted.shape[-1]
        assert np.allclose(found[mask].max(-1), wanted[mask].max(-1), atol=0.5)
    else:
        assert np.allclose(found[mask], wanted[mask], atol=1e-4)
    assert bundle(["漢字 and words never seen"])[name].shape[0] == 1
