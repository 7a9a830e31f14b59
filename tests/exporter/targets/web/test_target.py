"""Target web: what is written, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from headway import Bundle
from headway.errors import TargetError, UsageError
from headway.exporter.api import resolve_recipe
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.targets.registry import target_of
from headway.exporter.targets.web import wasm
from headway.exporter.verification import verify_bundle
from headway.manifest import Manifest


def test_the_folders_are_those_of_transformers_js_and_hold_a_page(sentence: Exported) -> None:
    path, manifest = sentence.path, sentence.manifest
    assert manifest.artifact == "onnx/model.onnx"
    names = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "index.html",
        "package.json",
        "package-lock.json",
    ]
    names += [f"web/{n}" for n in ("bundle.mjs", "page.mjs", "tokenizer.mjs", "unicode.json")]
    assert set(names) <= set(manifest.files)
    assert json.loads((path / "config.json").read_text())["transformers.js_config"] == {"dtype": "fp32"}
    model = onnx.load(path / manifest.artifact, load_external_data=False)
    assert not [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert json.loads((path / "package-lock.json").read_text())["packages"]["node_modules/onnxruntime-web"]["integrity"]


def test_nothing_in_the_page_points_to_a_network(sentence: Exported) -> None:
    for name in (
        "index.html",
        "package.json",
        "package-lock.json",
        "web/bundle.mjs",
        "web/page.mjs",
        "web/tokenizer.mjs",
    ):
        text = (sentence.path / name).read_text(encoding="utf-8")
        assert "://" not in text and "cdn" not in text.lower(), name


def test_a_web_bundle_opens_verifies_and_gives_the_outputs_of_the_source(
    sentence: Exported, sentence_bundle: Exported
) -> None:
    texts = ["a small model of text", "rain and bread"]
    ours, stock = (Bundle.open(b.path)(texts)["sentence_embedding"] for b in (sentence, sentence_bundle))
    np.testing.assert_allclose(ours, stock, atol=1e-6)
    assert verify_bundle(sentence.path, None, None).ok


@pytest.mark.parametrize("options", [{"kernels": "custom"}, {"dtype": "fp16"}])
def test_what_a_browser_cannot_run_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="target web"):
        target_of(Recipe(source="x", target="web", **options))


def test_without_node_the_bundle_is_checked_on_the_processor_and_says_so(
    sentence: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    recipe = resolve_recipe(None, sentence.path / "recipe.yaml")
    record = export(recipe, tmp_path / "bundle").manifest.engine
    assert record is not None
    assert "WebAssembly was not run: node is not on the PATH" in record["checked"]
    assert record["tokenizer"] == {"page": "not compared: node is not on the PATH"}
    with pytest.raises(TargetError, match="install Node"):
        wasm.WasmRunner(sentence.path / "onnx/model.onnx", {})


def test_the_manifest_that_the_page_reads_names_its_inputs(classifier: Exported) -> None:
    manifest = Manifest.read(classifier.path)
    assert [i.name for i in manifest.inputs] == ["input_ids", "attention_mask", "token_type_ids"]
    assert manifest.labels == {"0": "praise", "1": "blame"}
