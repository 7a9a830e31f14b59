"""The page in headless Chromium and in Node."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway import Bundle
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe

from tests.support import models
from tests.support.node import PACKAGES, ROOT, needs_node
from tests.support.serving import serving

BROWSER = ROOT / "tests" / "web" / "browser.mjs"
ARTIFACTS = ROOT / "build" / "web"


def browse(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        ["node", BROWSER, *arguments], capture_output=True, text=True, encoding="utf-8", check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    page = json.loads(done.stdout)
    assert page["errors"] == []
    return dict(page)


@pytest.fixture
def runtime_beside(sentence: Exported, classifier: Exported) -> None:
    """onnxruntime-web where `npm ci` puts it."""
    for bundle in (sentence, classifier):
        if not (bundle.path / "node_modules").exists():
            (bundle.path / "node_modules").symlink_to(PACKAGES)


@needs_node
def test_the_page_says_how_alike_two_texts_are_as_python_does(sentence: Exported, runtime_beside: None) -> None:
    texts = ["The price of BREAD, a naïve ﬁle", "Rain: 雨 and time 🙂"]
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    with serving(sentence.path) as url:
        page = browse(url, str(ARTIFACTS / "page.png"), *texts)
    a, b = Bundle.open(sentence.path)(texts)["sentence_embedding"].astype(np.float64)
    wanted = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert page["answer"]["similarity"] == pytest.approx(wanted, abs=1e-4)
    assert page["shown"].strip() == f"{wanted:.4f}"
    assert " ms in the model" in page["time"]
    assert page["isolated"]
    assert (ARTIFACTS / "page.png").read_bytes().startswith(b"\x89PNG")


@needs_node
def test_the_page_labels_a_text_as_python_does(classifier: Exported, runtime_beside: None) -> None:
    text = "what is the price of a train?"
    with serving(classifier.path) as url:
        page = browse(url, str(ARTIFACTS / "page-labels.png"), text)
    label, probability = Bundle.open(classifier.path).labels([text])[0]
    best = page["answer"]["scores"][0]
    assert best["label"] == label
    assert best["score"] == pytest.approx(probability, abs=1e-4)
    assert page["shown"].split("\n")[0] == label
    assert f"{100 * probability:.1f} %" in page["shown"]
    assert page["bars"] == pytest.approx([s["score"] for s in page["answer"]["scores"]], abs=0.01)


@needs_node
def test_transformers_js_opens_the_same_directory(sentence: Exported, classifier: Exported, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    (tmp_path / "embedding").symlink_to(sentence.path)
    (tmp_path / "bundle").symlink_to(classifier.path)
    places = {
        "@huggingface/transformers": "./node_modules/@huggingface/transformers/dist/transformers.web.min.js",
        "onnxruntime-web/webgpu": "./node_modules/onnxruntime-web/dist/ort.webgpu.bundle.min.mjs",
        "onnxruntime-common": "./node_modules/onnxruntime-common/dist/esm/index.js",
    }
    page = f'<link rel="icon" href="data:,"><script type="importmap">{json.dumps({"imports": places})}</script>'
    (tmp_path / "index.html").write_text(page)
    text = "the price of a train"
    with serving(tmp_path) as url:
        vector = browse(url, "transformers", "feature-extraction", "embedding", text)["made"]
        labels = browse(url, "transformers", "text-classification", "bundle", text)["made"]
    np.testing.assert_allclose(vector, Bundle.open(sentence.path)([text])["sentence_embedding"][0], atol=1e-4)
    label, probability = Bundle.open(classifier.path).labels([text])[0]
    assert labels[0]["label"] == label and labels[0]["score"] == pytest.approx(probability, abs=1e-4)


@needs_node
@pytest.mark.parametrize("task", ["fill-mask", "token-classification", "question-answering", "multiple-choice"])
def test_the_page_runs_every_other_task(task: str, tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "model", task=task)
    exported = export(Recipe(source=str(source), target="web"), tmp_path / "bundle")
    bundle = Bundle.open(exported.path)
    script = tmp_path / "ask.mjs"
    script.write_text(
        f"""
import fs from "node:fs";
import {{ createRequire }} from "node:module";
import {{ Bundle }} from "{ROOT.as_uri()}/exporter/targets/web/page/bundle.mjs";
const ort = createRequire(process.env.NODE_PATH + "/x.js")("onnxruntime-web");
ort.env.wasm.numThreads = 1;
const read = async (name, json) => {{
  const bytes = fs.readFileSync("{exported.path}/" + name);
  return json ? JSON.parse(bytes) : bytes;
}};
const b = await Bundle.open(ort, read);
const asked = {{
  "fill-mask": () => b.fill("the [MASK] of bread"),
  "token-classification": () => b.tag("the price of bread"),
  "question-answering": () => b.answer("what runs?", "the train runs with time and rain"),
  "multiple-choice": () => b.choose("the model", ["a small word", "rain", "the train runs with time"]),
}};
console.log(JSON.stringify(await asked["{task}"]()));
"""
    )
    done = subprocess.run(["node", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    if task == "fill-mask":
        encoding = bundle.encoder.encode(["the [MASK] of bread"])[0]
        logits = bundle(["the [MASK] of bread"])["logits"][0, encoding.tokens.index("[MASK]")]
        assert reply["scores"][0]["label"] == bundle.encoder.tokenizer.id_to_token(int(logits.argmax()))
    elif task == "token-classification":
        logits = bundle(["the price of bread"])["logits"][0]
        wanted = [bundle._label(int(i)) for i in logits.argmax(-1)[1:-1]]
        assert [t["label"] for t in reply["tags"]] == wanted
    elif task == "question-answering":
        wanted = bundle.answers([("what runs?", "the train runs with time and rain")])[0]
        assert reply["score"] == pytest.approx(wanted["score"], abs=1e-4)
        words = bundle.encoder.tokenizer.encode(wanted["answer"], add_special_tokens=False).tokens
        assert reply["answer"] == words
    else:
        best, probability = bundle.choices([("the model", ["a small word", "rain", "the train runs with time"])])[0]
        scores = [s["score"] for s in reply["scores"]]
        assert int(np.argmax(scores)) == best and max(scores) == pytest.approx(probability, abs=1e-4)
