"""The code written for phones and pages is code."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tree_sitter
import tree_sitter_kotlin
import tree_sitter_swift

from headway.errors import UsageError
from headway.exporter.export import Exported
from headway.exporter.package.snippets import writers
from headway.exporter.package.snippets.writers import WRITERS, snippet
from headway.exporter.recipe.targets import targets_for
from headway.manifest import Manifest, TensorInfo
from headway.tasks import Scoring

GRAMMARS = {"android": tree_sitter_kotlin, "ios": tree_sitter_swift}


@pytest.mark.parametrize(
    "target, platform", [("litert", "ios"), ("coreml", "android"), ("executorch", "web"), ("ort", "web")]
)
def test_a_bundle_for_something_else_is_refused(target: str, platform, mobile: Exported) -> None:
    with pytest.raises(UsageError, match=f"target {target} does not run on {platform}.*--target"):
        snippet(replace(mobile.manifest, target=target), platform)


def variants(manifest: Manifest) -> list[Manifest]:
    """Return the same model as other targets and tasks would have it."""
    choices = [replace(t, shape=["batch", "choices", "sequence"]) for t in manifest.inputs]
    odd = [TensorInfo("last hidden.state-0", "float32", ["batch", "sequence", 32])]
    config = {"session.enable_saved_runtime_optimizations": "1"}
    return [
        manifest,
        replace(manifest, inputs=choices, labels={}),
        replace(manifest, outputs=odd, session_options={"config": config}),
        replace(manifest, inputs=manifest.inputs[:1]),
        replace(manifest, inputs=[replace(t, dtype="int32") for t in manifest.inputs]),
        *(classifier(manifest, scoring) for scoring in SCORINGS),
    ]


SCORINGS = [
    Scoring("single-label", "softmax"),
    Scoring("multi-label", "sigmoid"),
    Scoring("value", "tanh"),
    Scoring("value", "identity"),
]


def classifier(manifest: Manifest, scoring: Scoring) -> Manifest:
    """Return the same model as a classifier of three labels would have it, one of them without a name."""
    return replace(
        manifest,
        task="text-classification",
        outputs=[TensorInfo("logits", "float32", ["batch", 3])],
        labels={"0": "no", "2": "yes"},
        scoring=scoring.record(),
    )


@pytest.mark.parametrize("platform, target", [(p, t) for p in GRAMMARS for t in targets_for(p)])
def test_the_code_parses(platform: str, target: str, mobile: Exported) -> None:
    """By the grammars of tree-sitter: an error anywhere in the tree is one in the code."""
    parser = tree_sitter.Parser(tree_sitter.Language(GRAMMARS[platform].language()))
    for manifest in variants(replace(mobile.manifest, target=target)):
        code = snippet(manifest, platform).text
        assert not parser.parse(code.encode()).root_node.has_error, code
    assert parser.parse(code.replace("{", "(", 1).encode()).root_node.has_error


@pytest.mark.skipif(shutil.which("node") is None, reason="JavaScript is checked by node")
def test_the_javascript_is_javascript(mobile: Exported, tmp_path: Path) -> None:
    for i, manifest in enumerate(variants(mobile.manifest)):
        path = tmp_path / f"{i}.mjs"
        path.write_text(snippet(manifest, "web").text)
        subprocess.run(["node", "--check", path], check=True, timeout=60)


@pytest.mark.skipif(shutil.which("node") is None, reason="JavaScript is run by node")
@pytest.mark.parametrize("scoring", SCORINGS)
def test_the_javascript_scores_as_a_bundle_does(scoring: Scoring, mobile: Exported, tmp_path: Path) -> None:
    code = snippet(classifier(mobile.manifest, scoring), "web").text.replace("import * as ort", "// import * as ort")
    path = tmp_path / "scores.mjs"
    path.write_text(code + "console.log(JSON.stringify(scores(Float32Array.from([1.5, -2, 0.25]))));")
    done = subprocess.run(["node", path], check=True, timeout=60, capture_output=True, text=True)
    wanted = scoring.scores(np.array([1.5, -2.0, 0.25])).tolist()
    assert json.loads(done.stdout) == pytest.approx(dict(zip(("no", "LABEL_1", "yes"), wanted, strict=True)), rel=1e-6)


FORMULAS = {
    "android": {
        "softmax": "kotlin.math.exp((it - largest).toDouble()) }; LABELS[it] to (raised[it] / sum).toFloat() }",
        "sigmoid": "LABELS[it] to (1.0 / (1.0 + kotlin.math.exp(-logits[it].toDouble()))).toFloat() }",
        "tanh": "LABELS[it] to kotlin.math.tanh(logits[it]) }",
        "identity": "LABELS[it] to logits[it] }",
    },
    "ios": {
        "softmax": "logits.map { exp($0 - largest) }; raised.map { $0 / sum }",
        "sigmoid": "logits.map { 1 / (1 + exp(-$0)) }",
        "tanh": "logits.map { tanh($0) }",
        "identity": "let values = logits\n",
    },
}
"""What the code of each activation holds, and that of no other does."""


@pytest.mark.parametrize("platform", FORMULAS)
def test_each_scoring_has_its_own_function(platform, mobile: Exported) -> None:
    """The code of phones is not run here: it applies the activation, and no other one."""
    target = next(iter(targets_for(platform)))
    for scoring in SCORINGS:
        code = snippet(classifier(replace(mobile.manifest, target=target), scoring), platform).text
        assert '"no", "LABEL_1", "yes"' in code
        function = code[code.index(scoring.meaning()) :]
        applied = [a for a, formula in FORMULAS[platform].items() if all(p in function for p in formula.split("; "))]
        assert applied == [scoring.activation]
    plain = replace(mobile.manifest, target=target, task="feature-extraction")
    assert "scores(" not in snippet(plain, platform).text


def test_dtypes_without_a_form_are_refused(mobile: Exported) -> None:
    inputs = [replace(t, dtype="float16") for t in mobile.manifest.inputs]
    for platform in WRITERS:
        with pytest.raises(UsageError, match="dtype float16"):
            snippet(replace(mobile.manifest, inputs=inputs), platform)
    outputs = [replace(t, dtype="int64") for t in mobile.manifest.outputs]
    with pytest.raises(UsageError, match="is int64"):
        snippet(replace(mobile.manifest, outputs=outputs), "android")


def test_nothing_of_a_template_is_left(mobile: Exported) -> None:
    for platform, by_runner in WRITERS.items():
        for target in targets_for(platform):
            for manifest in variants(replace(mobile.manifest, target=target)):
                code = snippet(manifest, platform).text
                assert not any(mark in code for mark in ("{%", "%}", "{#", "None", "Undefined"))
                assert code.endswith("}\n") and not code.endswith("\n\n")
        folder = Path(writers.__file__).parent / "templates"
        assert all((folder / writer.template).is_file() for writer in by_runner.values())
