"""Compression from source to bundle: verified, measured, repaired, refused."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from safetensors.torch import load_file, save_file

from headway import Bundle
from headway.errors import GateError, UsageError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe, make_recipe
from headway.exporter.verification import verify_bundle
from headway.manifest import Manifest

from tests.support import models
from tests.support.command_line import Headway
from tests.support.stacks import SHAPE
from tests.support.variants import canonical


def test_a_compressed_bundle_is_verified_measured_and_opens(classifier: Path, text: Path, tmp_path: Path) -> None:
    recipe = make_recipe(
        "test",
        source=str(classifier),
        data=text,
        passes=[{"kind": "share"}, {"kind": "fit", "flops": 0.5}, {"kind": "repair"}],
        max_drop=100,
    )
    done = export(recipe, tmp_path / "bundle")
    compression = done.manifest.compression
    assert compression is not None
    names = [s["name"] for s in compression["stages"]]
    assert names == ["source", "share", "fit", "repair"]
    sizes = [s["nbytes"] for s in compression["stages"]]
    assert sizes[2] < sizes[1] and sizes[2] == sizes[3]
    share = compression["stages"][1]
    assert not share["changes"] and share["paid"] is False
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "gained nothing" in card and "plots/passes.png" in card
    assert compression["metric"] == "accuracy"
    bundle = Bundle.open(tmp_path / "bundle")
    bundle.check_files()
    assert len(bundle.labels(["the small model runs"])) == 1
    shutil.copy(text, tmp_path)  # found beside the bundle, which names no other place
    verdict = verify_bundle(tmp_path / "bundle", str(classifier), None)
    assert verdict.ok and verdict.quality == pytest.approx(compression["stages"][-1]["quality"])
    heads = [b["heads"] for b in done.manifest.anatomy["blocks"]]
    assert done.manifest.anatomy["gflops_per_token_at_128"] > 0 and max(heads) <= 4
    flops = [r["flops_per_token"] for r in compression["reports"]]
    assert flops[-1][1] < flops[0][0]


def test_a_recipe_made_again_gives_the_same_model(classifier: Path, text: Path, tmp_path: Path) -> None:
    recipe = make_recipe(
        "test",
        source=str(classifier),
        data=text,
        passes=[
            {"kind": "remove_heads", "keep": {0: [0, 2]}},
            {"kind": "remove_blocks", "every": 3},
            {"kind": "repair"},
        ],
        max_drop=100,
    )
    first, second = (export(recipe, tmp_path / n).manifest for n in "ab")
    same = ("model.onnx", "model.onnx.data", "tokenizer.json", "recipe.yaml")
    assert [first.files[n]["sha256"] for n in same] == [second.files[n]["sha256"] for n in same]
    assert [b["heads"] for b in first.anatomy["blocks"]] == [2, 4]


def test_an_onnx_file_is_compressed_with_gradients_too(bert: Path, text: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "onnx")
    (tmp_path / "onnx" / "model.safetensors").unlink()
    ir.save(canonical(bert), tmp_path / "onnx" / "model.onnx")
    recipe = make_recipe(
        "test",
        source=str(tmp_path / "onnx" / "model.onnx"),
        data=text,
        passes=[{"kind": "fit", "flops": 0.6, "rounds": 1}, {"kind": "repair"}],
        max_drop=100,
    )
    done = export(recipe, tmp_path / "bundle")
    assert done.manifest.source["kind"] == "onnx"
    stages = done.manifest.compression["stages"]  # type: ignore[index]
    assert stages[-1]["quality"] >= stages[-2]["quality"] - 0.5


def test_a_compressed_factory_is_verified_again(
    classifier: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tokenizer and classes are known only when it is loaded."""
    (tmp_path / "compressed_factory.py").write_text(
        "import transformers\n"
        f"def made():\n    return transformers.AutoModelForSequenceClassification.from_pretrained({str(classifier)!r})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    recipe = make_recipe(
        "test",
        source="compressed_factory:made",
        task="text-classification",
        data=text,
        passes=[{"kind": "float16"}],
        max_drop=100,
    )
    done = export(recipe, tmp_path / "out")
    with pytest.raises(UsageError, match="compressed_factory:made is a factory, and code runs only when you name it"):
        verify_bundle(done.path, None, [text])
    verdict = verify_bundle(done.path, "compressed_factory:made", [text])
    assert verdict.ok and verdict.metric == done.manifest.compression["metric"] == "accuracy"  # type: ignore[index]


def test_lost_quality_is_a_failed_gate_and_leaves_nothing(classifier: Path, text: Path, tmp_path: Path) -> None:
    passes = [{"kind": "remove_blocks", "blocks": [0, 1]}]
    unlabeled = tmp_path / "lines.txt"
    unlabeled.write_text("\n".join(json.loads(line)["text"] for line in text.read_text().splitlines()))
    sentence = models.make_sentence_model(tmp_path / "sentence", num_hidden_layers=3)
    recipe = make_recipe("test", source=str(sentence), data=unlabeled, passes=passes, max_drop=0.01)
    with pytest.raises(GateError, match="points of agreement with the source were lost"):
        export(recipe, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists() and not list(tmp_path.glob(".bundle*"))


def test_every_file_of_text_is_judged_by_itself(tmp_path: Path) -> None:
    sentence = models.make_sentence_model(tmp_path / "sentence", num_hidden_layers=3)
    rng = random.Random(3)
    lines = {
        f"{name}.txt": [" ".join(rng.choices(models.WORDS, k=k)) for _ in range(60)]
        for name, k in (("a", 4), ("b", 12))
    }
    lines["b.txt"] += lines["a.txt"][:30]  # in both
    for name, texts in lines.items():
        (tmp_path / name).write_text("\n".join(texts))
    recipe = make_recipe(
        "test",
        source=str(sentence),
        data=[tmp_path / name for name in lines],
        passes=[{"kind": "remove_blocks", "blocks": [1]}, {"kind": "quantize"}],
        max_drop=100,
    )
    manifest = export(recipe, tmp_path / "bundle").manifest
    compression = manifest.compression
    assert compression is not None and Manifest.read(tmp_path / "bundle").compression == json.loads(
        json.dumps(compression)
    )
    agreement = compression["agreement"]
    first, second = agreement["files"]
    assert [(f["data"], f["texts"] > 10, f["measure"]) for f in agreement["files"]] == [
        ("a.txt", True, "correlation of similarities"),
        ("b.txt", True, "correlation of similarities"),
    ]
    worst = max(first, second, key=lambda f: f["lost"])
    assert agreement["worst"] == worst["data"] and compression["stages"][-1]["quality"] == worst["points"]
    for stage in compression["stages"]:
        assert stage["quality"] == min(stage["by_file"].values()) and list(stage["by_file"]) == list(lines)
    assert compression["stages"][-1]["by_file"] == {f["data"]: f["points"] for f in agreement["files"]}
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "| a.txt | b.txt |" in card and f"a.txt: {first['meaning']}" in card and "the 10 nearest found again" in card
    verdict = verify_bundle(tmp_path / "bundle", None, None)
    assert verdict.ok and verdict.agreement is not None and verdict.agreement["worst"] == worst["data"]
    assert verdict.quality == pytest.approx(worst["points"], abs=0.01)
    assert verify_bundle(tmp_path / "bundle", None, [tmp_path / "b.txt"]).agreement["files"][0]["texts"] == len(
        set(lines["b.txt"])
    )
    tight = recipe.model_copy(update={"max_drop": (first["lost"] + second["lost"]) / 2})
    with pytest.raises(GateError, match=rf"were lost on held-out text of {worst['data']} \("):
        export(tight, tmp_path / "tight")
    assert not (tmp_path / "tight").exists()


def test_outputs_that_no_task_reads_do_not_hide_what_is_lost(tmp_path: Path) -> None:
    """A file may give back its inputs and its hidden vectors, too."""
    source = models.make_model(tmp_path / "source", "bert", "token-classification", num_hidden_layers=3)
    lines = [" ".join(random.Random(i).choices(models.WORDS, k=9)) for i in range(120)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    points = []
    for name in ("plain", "more"):
        shutil.copytree(source, tmp_path / name)
        (tmp_path / name / "model.safetensors").unlink()
        model = canonical(source)
        if name == "more":
            hidden = [v for n in model.graph for v in n.outputs if n.op_type == "LayerNormalization"][-1]
            mask = next(v for v in model.graph.inputs if v.name == "attention_mask")
            copied = ir.node("Identity", [mask])
            copied.outputs[0].name, copied.outputs[0].type, copied.outputs[0].shape = "seen", mask.type, mask.shape
            model.graph.append(copied)
            model.graph.outputs.extend([hidden, copied.outputs[0]])
        ir.save(model, tmp_path / name / "model.onnx")
        recipe = make_recipe(
            "test",
            source=str(tmp_path / name / "model.onnx"),
            data=tmp_path / "lines.txt",
            passes=[{"kind": "remove_blocks", "blocks": [0, 1]}],
            max_drop=100,
        )
        done = export(recipe, tmp_path / f"{name}-bundle").manifest
        assert len(done.outputs) == (1 if name == "plain" else 3)
        points.append(done.compression["stages"][-1]["quality"])  # type: ignore[index]
    assert points[0] == points[1] < 100


def test_compression_needs_text(classifier: Path, tmp_path: Path) -> None:
    recipe = make_recipe("test", source=str(classifier), passes=[{"kind": "fit", "flops": 0.5}])
    with pytest.raises(UsageError, match="give --data"):
        export(recipe, tmp_path / "bundle")
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(UsageError, match="holds no text"):
        export(
            make_recipe(
                "test", source=str(classifier), data=tmp_path / "empty.txt", passes=[{"kind": "fit", "flops": 0.5}]
            ),
            tmp_path / "b",
        )
    (tmp_path / "other.txt").write_text("\n".join("漢字 かな" + "文" * i for i in range(12)))
    with pytest.raises(UsageError, match="becomes a known token"):
        export(
            make_recipe(
                "test", source=str(classifier), data=tmp_path / "other.txt", passes=[{"kind": "fit", "flops": 0.5}]
            ),
            tmp_path / "b",
        )
    labeled = tmp_path / "labeled.jsonl"
    labeled.write_text('{"text": "the model", "label": "strange"}\n')
    with pytest.raises(UsageError, match="label 'strange' is none of the model's classes"):
        export(
            make_recipe("test", source=str(classifier), data=labeled, passes=[{"kind": "fit", "flops": 0.5}]),
            tmp_path / "b",
        )


def test_the_command_line_compresses(classifier: Path, text: Path, tmp_path: Path, headway: Headway) -> None:
    out = tmp_path / "bundle"
    done = headway(
        "compress", classifier, "--data", text, "--out", out, "--flops", "0.6", "--max-drop", "100", "--json"
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert [s["name"] for s in printed["stages"]] == ["source", "fit", "repair", "recover"]
    words = ("export", "--recipe", out / "recipe.yaml", "--out", tmp_path / "again", "--json")
    lost = headway(*words)
    assert lost.returncode == 2 and f"{classifier.name} is neither here nor beside the bundle" in lost.stderr
    again = headway(*words, classifier, "--data", text)
    assert again.returncode == 0, again.stderr
    first, second = ((tmp_path / n / "model.onnx.data").read_bytes() for n in ("bundle", "again"))
    assert first == second
    assert "points" in headway("verify", out, "--against", classifier, "--data", text).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--speedup", "2", "--latency", "soon"], 2, "a number of ms is expected"),
        (["--speedup", "2", "--shape", "8"], 2, "texts x tokens is expected"),
        (["--speedup", "2", "--shape", "1x999"], 2, "longer than the model's"),
        (["--speedup", "2", "--flops", "0.5"], 2, "exactly one"),
        (["--quantize", "float16", "--search"], 2, "give `quantize` (--quantize) int8 or int4 with it"),
        ([], 2, "say what to do"),
        (["--speedup", "100"], 1, "cannot be met"),
    ],
)
def test_what_cannot_be_done_says_why(
    arguments: list[str], code: int, says: str, classifier: Path, text: Path, tmp_path: Path, headway: Headway
) -> None:
    done = headway("compress", classifier, "--data", text, "--out", tmp_path / "bundle", *arguments)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "metric"), [("activation.Sigmoid", "accuracy"), ("linear.Identity", "correlation with the labels")]
)
def test_a_cross_encoder_of_one_logit_is_judged_by_its_labels(activation: str, metric: str, tmp_path: Path) -> None:
    """Labels are the source's own answers: the source has all points, and a model that is cut a little keeps most of them."""
    settings = {"num_labels": 1, "num_hidden_layers": 3, "hidden_size": 64, "intermediate_size": 256}
    source = models.make_model(tmp_path / "source", "bert", "text-classification", **settings)
    config = json.loads((source / "config.json").read_text())
    named = {"sentence_transformers": {"activation_fn": f"torch.nn.modules.{activation}"}}
    (source / "config.json").write_text(json.dumps(config | named))
    texts = sorted({" ".join(random.Random(i).choices(models.WORDS, k=2 + i % 19)) for i in range(240)})
    logits = Bundle.open(export(Recipe(source=str(source)), tmp_path / "whole").path)(texts)["logits"][:, 0]
    weights = load_file(source / "model.safetensors")
    weights["classifier.bias"] -= float(np.median(logits))  # so that half of the texts are relevant
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    logits = logits - np.median(logits)
    labels = [int(x > 0) if metric == "accuracy" else round(float(x), 4) for x in logits]
    rows = [json.dumps({"text": text, "label": label}) for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    arguments = {"data": str(tmp_path / "pairs.jsonl"), "calibration": {"samples": 64}, "work": {"shapes": [SHAPE]}}
    passes = [{"kind": "fit", "speedup": 1.1}, {"kind": "repair"}]
    recipe = make_recipe("test", source=str(source), passes=passes, max_drop=60, **arguments)
    done = export(recipe, tmp_path / "bundle")
    compression = done.manifest.compression
    assert compression is not None and compression["metric"] == metric and compression["evidence"]["labeled"]
    first, last = compression["stages"][0]["quality"], compression["stages"][-1]["quality"]
    judged = compression["agreement"]["files"][0]
    assert first > 99.9 and 60 < last <= 100 and judged["lost"] == pytest.approx(first - last)
    assert judged["measure"] == metric and judged["lost_low"] <= judged["lost"] <= judged["lost_high"]
    verdict = verify_bundle(done.path, str(source), [tmp_path / "pairs.jsonl"])
    assert verdict.ok and verdict.metric == metric
    passes = [{"kind": "remove_blocks", "blocks": [0, 1]}]
    with pytest.raises(GateError, match=f"points of {metric} were lost"):
        export(make_recipe("test", source=str(source), passes=passes, max_drop=0.01, **arguments), tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
