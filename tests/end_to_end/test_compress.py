"""Compression from source to bundle: verified, measured, repaired, refused."""

import json
import shutil
from pathlib import Path

import onnx_ir as ir
import pytest

from headway import Bundle
from headway.errors import GateError, UsageError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.verification import verify_bundle

from tests.support import models
from tests.support.command_line import Headway
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
        passes=[{"kind": "fit", "flops": 0.6}, {"kind": "repair"}],
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
        verify_bundle(done.path, None, text)
    verdict = verify_bundle(done.path, "compressed_factory:made", text)
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
    assert [s["name"] for s in printed["stages"]] == ["source", "fit", "repair"]
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
        (["--quantize", "float16", "--search"], 2, "give --quantize int8 or int4 with it"),
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
