"""Target web: what is written, its numbers in WebAssembly, its token ids in JavaScript, and its page in headless Chromium."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import onnx
import pytest

from headway import Bundle
from headway.errors import GateError, TargetError, UsageError
from headway.exporter.compression import compress
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe, make_recipe, read_recipe
from headway.exporter.targets.registry import target_of
from headway.exporter.targets.web import wasm
from headway.exporter.targets.web.page_tokenizer import compare_in_javascript, ids_in_javascript
from headway.exporter.targets.web.serve import ISOLATION, server
from headway.exporter.tokenizer.check import unicode_lines
from headway.exporter.verification import verify_bundle
from headway.manifest import Manifest, TokenizerInfo
from headway.text import TextEncoder

import models
import tokenizers_of

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "tests" / "web" / "node_modules"
BROWSER = ROOT / "tests" / "web" / "browser.mjs"
ARTIFACTS = ROOT / "build" / "web"
FEW = 300


def _missing() -> str | None:
    if shutil.which("node") is None:
        return "node is not installed"
    return None if (PACKAGES / ".package-lock.json").is_file() else "npm has not installed tests/web (make test does)"


needs_node = pytest.mark.skipif(_missing() is not None, reason=str(_missing()))


@pytest.fixture(scope="module", autouse=True)
def node_packages() -> Iterator[None]:
    """Node finds what `make test` has installed. Exports compare fewer lines here: tests of token ids compare all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NODE_PATH", str(PACKAGES))
        patch.setattr(
            "headway.exporter.targets.web.page_tokenizer.compare_in_javascript",
            partial(compare_in_javascript, count=FEW),
        )
        yield


@pytest.fixture(scope="module")
def sentence(sentence_bundle: Exported, workshop: Path, node_packages: None) -> Exported:
    return export(Recipe(source=str(workshop / "sentence"), target="web"), workshop / "web-sentence")


@pytest.fixture(scope="module")
def classifier(workshop: Path, node_packages: None) -> Exported:
    labels = {0: "praise", 1: "blame", 2: "question"}
    source = models.make_model(
        workshop / "classifier",
        task="text-classification",
        num_labels=3,
        id2label=labels,
        label2id={v: k for k, v in labels.items()},
    )
    return export(Recipe(source=str(source), target="web"), workshop / "web-classifier")


# ---- what is written


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


def test_a_web_bundle_opens_verifies_and_answers_as_the_source_does(
    sentence: Exported, sentence_bundle: Exported
) -> None:
    texts = ["a small model of text", "rain and bread"]
    ours, stock = (Bundle.open(b.path)(texts)["sentence_embedding"] for b in (sentence, sentence_bundle))
    np.testing.assert_allclose(ours, stock, atol=1e-6)
    assert verify_bundle(sentence.path, None, None).ok


@pytest.mark.parametrize(
    ("one", "artifact", "dtype"),
    [
        ({"kind": "quantize"}, "onnx/model_quantized.onnx", "q8"),
        ({"kind": "quantize", "weights": "int4", "block": 16}, "onnx/model_q4.onnx", "q4"),
        ({"kind": "float16"}, "onnx/model_fp16.onnx", "fp16"),
    ],
)
@needs_node
def test_passes_choose_the_file_name_and_the_numbers_hold_in_wasm(
    bert: Path, tmp_path: Path, one: dict[str, Any], artifact: str, dtype: str
) -> None:
    data = tmp_path / "text.txt"
    data.write_text("\n".join(["a small model of text", "the price of bread", "rain and time", "word and piece"] * 3))
    recipe = make_recipe("test", source=str(bert), target="web", data=data, passes=[one], max_drop=100)
    made = compress(recipe, tmp_path / "bundle")
    assert made.manifest.artifact == artifact
    assert json.loads((made.path / "config.json").read_text())["transformers.js_config"]["dtype"] == dtype
    bundle = Bundle.open(made.path)
    feeds = bundle.encoder(["a small model", "the price of bread and rain"])
    runner = wasm.WasmRunner(made.path / artifact, bundle.manifest.session_options)
    for name, wanted in bundle.runner.run(feeds).items():
        real = feeds["attention_mask"].astype(bool)
        np.testing.assert_allclose(runner.run(feeds)[name][real], wanted[real], atol=1e-4 if dtype != "q8" else 5e-2)
    runner.close()


@pytest.mark.parametrize("options", [{"kernels": "custom"}, {"dtype": "fp16"}])
def test_what_a_browser_cannot_run_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="target web"):
        target_of(Recipe(source="x", target="web", **options))


def test_without_node_the_bundle_is_checked_on_the_processor_and_says_so(
    sentence: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    recipe = read_recipe(sentence.path / "recipe.yaml")
    record = export(recipe, tmp_path / "bundle").manifest.engine
    assert record is not None
    assert "WebAssembly was not run: node is not on the PATH" in record["checked"]
    assert record["tokenizer"] == {"page": "not compared: node is not on the PATH"}
    with pytest.raises(TargetError, match="install Node"):
        wasm.WasmRunner(sentence.path / "onnx/model.onnx", {})


# ---- WebAssembly


@needs_node
def test_the_export_was_compared_in_wasm_and_is_recorded(sentence: Exported) -> None:
    record = sentence.manifest.engine
    assert record is not None
    assert record["checked"] == "onnxruntime-web in Node"
    assert record["onnxruntime-web"] == "1.30.0"
    assert record["tokenizer"]["lines"] == FEW
    assert record["tokenizer"]["page"] == "equal on all"
    assert "onnxruntime-web in Node" in (sentence.path / "README.md").read_text()


@needs_node
def test_a_wrong_model_is_found_out_in_wasm(sentence: Exported, tmp_path: Path) -> None:
    model = onnx.load(sentence.path / "onnx/model.onnx")
    weight = next(t for t in model.graph.initializer if t.name.endswith("query.weight"))
    array = onnx.numpy_helper.to_array(weight).copy()
    array[0] += 1
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    onnx.save(model, tmp_path / "model.onnx")
    bundle = Bundle.open(sentence.path)
    feeds = bundle.encoder(["a small model"])
    name = "sentence_embedding"
    right, wrong = (
        wasm.WasmRunner(p / "model.onnx", bundle.manifest.session_options).run(feeds)[name]
        for p in (sentence.path / "onnx", tmp_path)
    )
    np.testing.assert_allclose(right, bundle.runner.run(feeds)[name], atol=1e-6)
    assert np.abs(wrong - right).max() > 1e-4


@needs_node
def test_an_operator_that_wasm_lacks_is_named_with_its_node(sentence: Exported, tmp_path: Path) -> None:
    model = onnx.load(sentence.path / "onnx/model.onnx")
    node = next(n for n in model.graph.node if n.op_type == "LayerNormalization")
    node.op_type, node.domain, node.name = "Unheard", "com.microsoft", "encoder.layer.0.norm"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(TargetError, match=r"onnxruntime-web 1\.30\.0 cannot run it: .*Unheard"):
        wasm.WasmRunner(tmp_path / "model.onnx", {})


# ---- token ids


@needs_node
@pytest.mark.parametrize("kind", tokenizers_of.KINDS)
def test_ids_of_the_page_are_the_tokenizers_on_ten_thousand_lines(kind: str, tmp_path: Path) -> None:
    directory = tokenizers_of.save(tokenizers_of.make(kind), tmp_path / "tokenizer")
    found = compare_in_javascript(directory, TokenizerInfo("tokenizer.json", 64, 0, 0, "[PAD]"))
    assert found["lines"] == 10_000
    assert found["page"] == "equal on all"


@needs_node
@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_pairs_are_joined_and_cut_alike(kind: str, tmp_path: Path) -> None:
    directory = tokenizers_of.save(tokenizers_of.make(kind), tmp_path / "tokenizer")
    lines = unicode_lines(1, 400)
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    for longest in (7, 8, 24):
        encoder = TextEncoder(directory / "tokenizer.json", TokenizerInfo("tokenizer.json", longest, 0, 0, "[PAD]"))
        assert ids_in_javascript(directory, pairs, longest) == [e.ids for e in encoder.encode(pairs)]


@needs_node
def test_every_character_there_is_has_the_ids_that_the_library_gives_it(tmp_path: Path) -> None:
    tokenizer = tokenizers_of.make("bert")
    directory = tokenizers_of.save(tokenizer, tmp_path / "tokenizer")
    characters = [chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000]
    lines = [f"a{'b'.join(characters[i : i + 64])}1" for i in range(0, len(characters), 64)]
    assert ids_in_javascript(directory, lines, 10_000) == [e.ids for e in tokenizer.encode_batch(lines)]


@needs_node
def test_a_reader_that_differs_is_refused_by_the_class_of_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page"
    shutil.copytree(ROOT / "exporter" / "web", page, ignore=shutil.ignore_patterns("node_modules"))
    tables = json.loads((page / "unicode.json").read_text())
    (page / "unicode.json").write_text(json.dumps(tables | {"lower": tables["lower"][:26]}))
    monkeypatch.setattr("headway.exporter.targets.web.page_tokenizer._READER", page / "ids.mjs")
    directory = tokenizers_of.save(tokenizers_of.make("bert"), tmp_path / "tokenizer")
    info = TokenizerInfo("tokenizer.json", 64, 0, 0, "[PAD]")
    with pytest.raises(GateError, match=r"(?s)the tokenizer of the page: .*letters beyond ASCII"):
        compare_in_javascript(directory, info, 2000)


@needs_node
def test_a_tokenizer_of_another_kind_is_named(tmp_path: Path) -> None:
    directory = tokenizers_of.save(tokenizers_of.make("bert"), tmp_path / "tokenizer")
    content = json.loads((directory / "tokenizer.json").read_text())
    content["pre_tokenizer"] = {"type": "UnicodeScripts"}
    (directory / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(TargetError, match="pre-tokenizer UnicodeScripts is not known"):
        ids_in_javascript(directory, ["a"], 8)


# ---- the page


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    with server(directory) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


def browse(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        ["node", BROWSER, *arguments], capture_output=True, text=True, encoding="utf-8", check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["errors"] == []
    return dict(found)


@pytest.fixture
def runtime_beside(sentence: Exported, classifier: Exported) -> None:
    """onnxruntime-web where `npm ci` puts it."""
    for made in (sentence, classifier):
        if not (made.path / "node_modules").exists():
            (made.path / "node_modules").symlink_to(PACKAGES)


def test_pages_are_served_with_the_headers_that_threads_need(sentence: Exported, tmp_path: Path) -> None:
    with serving(sentence.path) as url, urlopen(url) as response:
        assert {name: response.headers[name] for name in ISOLATION} == ISOLATION
    with pytest.raises(UsageError, match="--target web"):
        server(tmp_path)


@needs_node
def test_the_page_says_how_alike_two_texts_are_as_python_does(sentence: Exported, runtime_beside: None) -> None:
    texts = ["The price of BREAD, a naïve ﬁle", "Rain: 雨 and time 🙂"]
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    with serving(sentence.path) as url:
        found = browse(url, str(ARTIFACTS / "page.png"), *texts)
    a, b = Bundle.open(sentence.path)(texts)["sentence_embedding"].astype(np.float64)
    wanted = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert found["answer"]["similarity"] == pytest.approx(wanted, abs=1e-4)
    assert found["shown"].strip() == f"{wanted:.4f}"
    assert " ms in the model" in found["time"]
    assert found["isolated"]
    assert (ARTIFACTS / "page.png").read_bytes().startswith(b"\x89PNG")


@needs_node
def test_the_page_labels_a_text_as_python_does(classifier: Exported, runtime_beside: None) -> None:
    text = "what is the price of a train?"
    with serving(classifier.path) as url:
        found = browse(url, str(ARTIFACTS / "page-labels.png"), text)
    label, probability = Bundle.open(classifier.path).labels([text])[0]
    best = found["answer"]["scores"][0]
    assert best["label"] == label
    assert best["score"] == pytest.approx(probability, abs=1e-4)
    assert found["shown"].split("\n")[0] == label
    assert f"{100 * probability:.1f} %" in found["shown"]
    assert found["bars"] == pytest.approx([s["score"] for s in found["answer"]["scores"]], abs=0.01)


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
def test_the_page_answers_every_other_task(task: str, tmp_path: Path) -> None:
    source = models.make_model(tmp_path / "model", task=task)
    made = export(Recipe(source=str(source), target="web"), tmp_path / "bundle")
    bundle = Bundle.open(made.path)
    script = tmp_path / "ask.mjs"
    script.write_text(
        f"""
import fs from "node:fs";
import {{ createRequire }} from "node:module";
import {{ Bundle }} from "{ROOT.as_uri()}/exporter/web/bundle.mjs";
const ort = createRequire(process.env.NODE_PATH + "/x.js")("onnxruntime-web");
ort.env.wasm.numThreads = 1;
const read = async (name, json) => {{
  const bytes = fs.readFileSync("{made.path}/" + name);
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
    found = json.loads(done.stdout)
    if task == "fill-mask":
        encoding = bundle.encoder.encode(["the [MASK] of bread"])[0]
        logits = bundle(["the [MASK] of bread"])["logits"][0, encoding.tokens.index("[MASK]")]
        assert found["scores"][0]["label"] == bundle.encoder.tokenizer.id_to_token(int(logits.argmax()))
    elif task == "token-classification":
        logits = bundle(["the price of bread"])["logits"][0]
        wanted = [bundle._label(int(i)) for i in logits.argmax(-1)[1:-1]]
        assert [t["label"] for t in found["tags"]] == wanted
    elif task == "question-answering":
        wanted = bundle.answers([("what runs?", "the train runs with time and rain")])[0]
        assert found["score"] == pytest.approx(wanted["score"], abs=1e-4)
        words = bundle.encoder.tokenizer.encode(wanted["answer"], add_special_tokens=False).tokens
        assert found["answer"] == words
    else:
        best, probability = bundle.choices([("the model", ["a small word", "rain", "the train runs with time"])])[0]
        scores = [s["score"] for s in found["scores"]]
        assert int(np.argmax(scores)) == best and max(scores) == pytest.approx(probability, abs=1e-4)


def test_the_manifest_that_the_page_reads_names_its_inputs(classifier: Exported) -> None:
    manifest = Manifest.read(classifier.path)
    assert [i.name for i in manifest.inputs] == ["input_ids", "attention_mask", "token_type_ids"]
    assert manifest.labels == {"0": "praise", "1": "blame", "2": "question"}
