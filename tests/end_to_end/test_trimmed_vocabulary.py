"""A bundle with a trimmed vocabulary."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from headway import Bundle
from headway.calibration.corpus import TextFile
from headway.exporter.compress.samples import divide_files
from headway.exporter.export import export
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.recipe.recipe import Calibration, make_recipe

from tests.support import models
from tests.support.trimmed import CORPUS, corpus_lines
from tests.support.variants import canonical


@pytest.mark.parametrize(("family", "task"), [("bert", "fill-mask"), ("roberta", "feature-extraction")])
def test_a_trimmed_bundle_answers_as_its_source(family: str, task: str, tmp_path: Path) -> None:
    directory = models.make_model(tmp_path / "model", family, task)
    (tmp_path / "text.txt").write_text("\n".join(corpus_lines()))
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
    trimmed = bundle(CORPUS)[name]
    source = canonical(directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    feeds = {k: np.array(v) for k, v in tokenizer(CORPUS, padding=True).items()}
    feeds.setdefault("token_type_ids", np.zeros_like(feeds["input_ids"]))
    with torch.no_grad():
        wanted = TorchGraph(source)(feeds)[name].numpy()
    mask = feeds["attention_mask"].astype(bool)
    if task == "fill-mask":
        assert trimmed.shape[-1] < wanted.shape[-1]
        assert np.allclose(trimmed[mask].max(-1), wanted[mask].max(-1), atol=0.5)
    else:
        assert np.allclose(trimmed[mask], wanted[mask], atol=1e-4)
    assert bundle(["漢字 and words never seen"])[name].shape[0] == 1


def _made(directory: Path, lines: list[str], folder: Path) -> dict[str, bytes]:
    """Return what a vocabulary trimmed and quantized by a search comes to: artifact and tokenizer."""
    folder.mkdir()
    (folder / "text.txt").write_text("\n".join(lines))
    passes = [{"kind": "trim_vocabulary"}, {"kind": "quantize", "search": True}]
    recipe = make_recipe("test", source=str(directory), data=folder / "text.txt", passes=passes, max_drop=200)
    export(recipe, folder / "bundle")
    return {name: (folder / "bundle" / name).read_bytes() for name in ("model.onnx", "tokenizer.json")}


def test_what_judges_is_neither_learned_from_nor_chosen_by(tmp_path: Path) -> None:
    """Other texts in a part change what that part is for, and nothing else."""
    directory = models.make_model(tmp_path / "model", "bert", "text-classification")
    lines = corpus_lines()
    parts = divide_files([TextFile("text", lines)], Calibration(), choosing=True)
    others = corpus_lines(seed=1, words="number language train word piece")
    made = _made(directory, lines, tmp_path / "plain")

    def poisoned(part: list[str]) -> list[str]:
        return [others[i] if line in part else line for i, line in enumerate(lines)]

    assert _made(directory, poisoned(parts.judge[0].texts), tmp_path / "judge") == made
    assert (
        _made(directory, poisoned(parts.choose[0].texts), tmp_path / "choose")["tokenizer.json"]
        == made["tokenizer.json"]
    )
    assert (
        _made(directory, poisoned(parts.learned_from), tmp_path / "learn")["tokenizer.json"] != made["tokenizer.json"]
    )


def test_the_manifest_says_what_a_trimmed_vocabulary_covers(tmp_path: Path) -> None:
    directory = models.make_model(tmp_path / "model")
    lines = corpus_lines()
    texts = divide_files([TextFile("text", lines)], Calibration()).judge[0].texts
    judged = {i for i, line in enumerate(lines) if line in texts}
    lines = [f"{line} number" if i in judged and i % 2 else line for i, line in enumerate(lines)]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    recipe = make_recipe(
        "test", source=str(directory), data=tmp_path / "text.txt", passes=[{"kind": "trim_vocabulary"}], max_drop=100
    )
    compression = export(recipe, tmp_path / "bundle").manifest.compression
    assert compression is not None and compression["texts"] == {"learn": 48, "choose": 0, "judge": 12}
    said = compression["vocabulary"]
    assert said["before"] == 300 and said["after"] < 300 and said["scripts_gone"] == []
    assert said["changed"] == pytest.approx(np.mean([i % 2 for i in judged]))
    assert 0 < said["growth"] < 1 and 0.8 < said["coverage"] < 1
