"""What the templates of snippets are given."""

from dataclasses import replace

import pytest

from headway.errors import UsageError
from headway.exporter.export import Exported
from headway.exporter.package.snippets.common import SnippetInput, SnippetModel, camel_case
from headway.manifest import TensorInfo


@pytest.mark.parametrize(
    ("name", "variable"),
    [("input_ids", "inputIds"), ("last hidden.state-0", "lastHiddenState0"), ("Logits", "logits"), ("__x__", "x")],
)
def test_names_become_variables(name: str, variable: str) -> None:
    assert camel_case(name) == variable


def test_a_model_is_what_its_manifest_says(bert_bundle: Exported) -> None:
    labels = {"10": "c", "0": "a", "2": "b"}
    model = SnippetModel.of(replace(bert_bundle.manifest, artifact="onnx/model.x.onnx", labels=labels))
    assert (model.file, model.stem, model.suffix) == ("model.x.onnx", "model.x", "onnx")
    assert model.labels == ["a", "b", "c"] and model.ids == "inputIds" and not model.choices
    assert model.output_names == [o.name for o in bert_bundle.manifest.outputs]
    assert model.head().splitlines()[1] == "// input input_ids: int64 [batch, sequence]"
    with pytest.raises(UsageError, match="is float16"):
        SnippetModel.of(replace(bert_bundle.manifest, outputs=[TensorInfo("x", "float16", ["batch"])]))


def test_an_input_has_the_type_of_the_language() -> None:
    mask = SnippetInput.of(TensorInfo("attention_mask", "int64", ["batch", "sequence"]), {"int64": "Long"})
    assert mask == SnippetInput("attention_mask", "attentionMask", "int64", "Long", 1)
    assert SnippetInput.of(TensorInfo("token_type_ids", "int64", []), {"int64": "Long"}).padding == 0
    with pytest.raises(UsageError, match="dtype int32 has no form in this snippet; known: int64"):
        SnippetInput.of(TensorInfo("x", "int32", []), {"int64": "Long"})
