"""The page in headless Chromium and in Node."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway import Bundle
from headway.embeddings import SIMILARITIES, compared
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.tokenizer import load_tokenizer, save_tokenizer
from headway.tasks import Scoring
from headway.text import TextEncoder

from tests.support import models
from tests.support.node import PACKAGES, ROOT, needs_node
from tests.support.serving import serving

BROWSER = ROOT / "tests" / "web" / "browser.mjs"
ARTIFACTS = ROOT / "build" / "web"
PAGE = ROOT / "exporter" / "targets" / "web" / "page"


def browse(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        ["node", BROWSER, *arguments], capture_output=True, text=True, encoding="utf-8", check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    page = json.loads(done.stdout)
    assert page["errors"] == []
    return dict(page)


def served(place: Path, *packages: str) -> None:
    """Put packages where `npm ci` puts them. Hard links: the server follows no link that leads out."""
    for package in packages:
        folder = place / "node_modules" / package / "dist"
        if not folder.exists():
            shutil.copytree(PACKAGES / package / "dist", folder, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copy(source, target)


@pytest.fixture
def runtime_beside(sentence: Exported, classifier: Exported) -> None:
    for bundle in (sentence, classifier):
        served(bundle.path, "onnxruntime-web")


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
    served(tmp_path, "onnxruntime-web", "onnxruntime-common", "@huggingface/transformers")
    for name, bundle in (("embedding", sentence), ("bundle", classifier)):
        shutil.copytree(bundle.path, tmp_path / name, ignore=shutil.ignore_patterns("node_modules"))
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
@pytest.mark.parametrize(
    ("task", "family"),
    [
        pytest.param("fill-mask", "bert", marks=pytest.mark.slow),
        ("question-answering", "mpnet"),
        pytest.param("token-classification", "xlm-roberta", marks=pytest.mark.slow),
        pytest.param("multiple-choice", "distilbert", marks=pytest.mark.slow),
        pytest.param("token-classification", "bert", marks=pytest.mark.slow),
        pytest.param("question-answering", "bert", marks=pytest.mark.slow),
        pytest.param("multiple-choice", "bert", marks=pytest.mark.slow),
    ],
)
def test_the_page_runs_every_other_task(task: str, family: str, tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "model", family, task, **models.soonest(family))
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
        names = [
            bundle.encoder.tokenizer.id_to_token(int(i)) or "" for i in np.argsort(-logits)[:5]
        ]  # spare rows have no token
        assert [s["label"] for s in reply["scores"]] == names
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


def node(script: str, tmp_path: Path) -> Any:
    """Run a module that sees the page's own, and return what it prints."""
    path = tmp_path / "script.mjs"
    page = f"{ROOT.as_uri()}/exporter/targets/web/page"
    path.write_text(
        f'import fs from "node:fs"; import {{ Bundle }} from "{page}/bundle.mjs"; import {{ Tokenizer }} from "{page}/tokenizer.mjs";'
        f'const json = (name) => JSON.parse(fs.readFileSync(new URL(name, "{page}/")));\n{script}'
    )
    done = subprocess.run(["node", path], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


SCORINGS = [
    Scoring("single-label", "softmax"),
    Scoring("multi-label", "sigmoid"),
    Scoring("value", "sigmoid"),
    Scoring("value", "tanh"),
    Scoring("value", "identity"),
]


@needs_node
def test_the_page_scores_as_python_does(tmp_path: Path) -> None:
    logits = np.array([1.5, -2.0, 0.25])
    script = f"""
const logits = Float32Array.from({logits.tolist()});
const answers = {json.dumps([s.record() for s in SCORINGS])}.map(async (scoring) => {{
  const bundle = new Bundle(null, {{ labels: {{ 1: "b" }}, scoring, tokenizer: {{}} }}, null, null);
  bundle.run = async () => ({{ outputs: {{ logits: {{ data: logits }} }}, encoding: {{ ids: [] }}, ms: {{}} }});
  return bundle.classify("text");
}});
console.log(JSON.stringify(await Promise.all(answers)));
"""
    for answer, scoring in zip(node(script, tmp_path), SCORINGS, strict=True):
        wanted = dict(zip(("LABEL_0", "b", "LABEL_2"), scoring.scores(logits).tolist(), strict=True))
        assert {s["label"]: s["score"] for s in answer["scores"]} == pytest.approx(wanted, rel=1e-6)
        assert [s["label"] for s in answer["scores"]] == sorted(wanted, key=wanted.__getitem__, reverse=True)
        assert answer["kind"] == scoring.kind


@needs_node
def test_the_page_reads_long_contexts_in_python_s_windows(tmp_path: Path) -> None:
    models.make_tokenizer(tmp_path / "source")
    (tmp_path / "out").mkdir()
    info = save_tokenizer(load_tokenizer(tmp_path / "source"), 64, tmp_path / "out")
    encoder = TextEncoder(tmp_path / "out" / info.file, info)
    question = "the price of"
    lengths = (1, 57, 58, 59, 87, 88, 200)
    contexts = [" ".join(["rain"] * n) for n in lengths]
    script = f"""
const file = JSON.parse(fs.readFileSync({json.dumps(str(tmp_path / "out" / info.file))}));
const tokenizer = new Tokenizer(file, json("unicode.json"), {{ max_length: 64 }});
const found = {json.dumps(contexts)}.flatMap((c) => [undefined, 16].map((s) => tokenizer.windows({json.dumps(question)}, c, s)));
console.log(JSON.stringify(found.map((windows) => windows.map((w) => [w.ids, w.types]))));
"""
    wanted = [
        [[w.ids, w.type_ids] for w in encoder.windows([(question, context)], None, stride)[0]]
        for context in contexts
        for stride in (None, 16)
    ]
    assert node(script, tmp_path) == wanted
    assert [len(windows) for windows in wanted[::2]] == [1, 1, 1, 2, 2, 3, 6]


@needs_node
@pytest.mark.parametrize("function", SIMILARITIES["sentence-embedding"])
def test_vectors_are_compared_as_python_does(function: str) -> None:
    a, b = [1.0, -2.0, 0.5], [0.25, 3.0, -1.0]
    module = (PAGE / "bundle.mjs").as_uri()
    script = f"import {{ SIMILARITIES }} from {module!r}; console.log(SIMILARITIES.{function}({a}, {b}))"
    told = subprocess.run(["node", "--input-type=module", "-e", script], capture_output=True, text=True, check=True)
    assert float(told.stdout) == pytest.approx(float(compared(np.array(a), np.array(b), function)[0, 0]), rel=1e-6)
