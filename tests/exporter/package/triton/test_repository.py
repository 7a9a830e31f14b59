"""The model repository: what lies where, configurations, and Python models that answer as the bundle does.

The models run here with a stand-in for the server's Python module; a configuration is parsed by Triton's own schema where
tritonclient is installed.
"""

import importlib.util
import json
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headway
from headway.errors import UsageError
from headway.exporter.check.lint import Finding
from headway.exporter.export import Exported, export
from headway.exporter.package.triton import repository
from headway.exporter.package.triton.repository import (
    TritonPlan,
    _copy_library,
    _readme,
    _write_encoder,
    plan_of,
    write_repository,
)
from headway.exporter.recipe.recipe import Recipe
from headway.processor import X64_PRECISION, adds_bytes_exactly
from headway.serving.speed_table import SpeedTable

TEXTS = ["the price of bread", "rain", "a small model of language runs with time", "rain and bread"]


class Tensor:
    def __init__(self, name: str, array: np.ndarray):
        self.name, self._array = name, array

    def as_numpy(self) -> np.ndarray:
        return self._array


class Response:
    def __init__(self, tensors: list[Tensor], error: Any = None):
        self.tensors, self.error = {t.name: t.as_numpy() for t in tensors}, error


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """Stand in for the module that the server gives to Python models."""
    module: Any = types.ModuleType("triton_python_backend_utils")
    module.Tensor, module.InferenceResponse, module.TritonError = Tensor, Response, str
    module.get_input_tensor_by_name = lambda request, name: request[name]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = list(sys.path)
    yield module
    sys.path[:] = path
    sys.modules.pop("common", None)


def value_of(text: str, key: str) -> str:
    found = re.search(rf'key: "{key}"\s+value {{\s+string_value: "(.*)"', text)
    assert found is not None
    return found[1]


def loaded(folder: Path) -> Any:
    """Return a Python model as the server makes it: its configuration comes as JSON."""
    sys.modules.pop("common", None)
    text = (folder / "config.pbtxt").read_text()
    keys = re.findall(r'parameters {\s+key: "(\w+)"', text)
    outputs = re.findall(r'output \[\s+{\s+name: "(\w+)"', text)
    config = {
        "parameters": {key: {"string_value": value_of(text, key)} for key in keys},
        "output": [{"name": name} for name in outputs],
    }
    spec = importlib.util.spec_from_file_location(f"model_of_{folder.name}", folder / "1" / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    arguments = {"model_config": json.dumps(config), "model_repository": str(folder), "model_version": "1"}
    model.initialize(arguments)
    return model


def request(texts: list[Any]) -> dict[str, Tensor]:
    rows = [[part.encode() for part in ([text] if isinstance(text, str) else text)] for text in texts]
    return {"text": Tensor("text", np.array(rows, np.object_))}


@pytest.fixture(scope="module")
def sentence_package(sentence_bundle: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("triton")
    write_repository(plan_of("encoder", sentence_bundle.path), "The license is none.", out)
    return out


def test_python_alone_answers_as_the_bundle(server: Any, sentence_package: Path, sentence_bundle: Exported) -> None:
    model = loaded(sentence_package / "models-python" / "encoder")
    model.budget = 16
    responses = model.execute([request(TEXTS[:1]), request(TEXTS[1:]), {"text": Tensor("text", np.array([[b"\xff"]]))}])
    assert responses[2].error and not responses[2].tensors
    bundle = headway.open(sentence_bundle.path, threads=1)
    for response, texts in zip(responses, (TEXTS[:1], TEXTS[1:]), strict=False):
        for name, array in bundle(texts).items():
            np.testing.assert_allclose(response.tensors[name], array, atol=1e-5)


def test_the_tokenizer_gives_the_bundle_s_ids(server: Any, sentence_package: Path, sentence_bundle: Exported) -> None:
    model = loaded(sentence_package / "models" / "encoder_tokenizer")
    (response,) = model.execute([request(TEXTS)])
    expected = headway.open(sentence_bundle.path).encoder(TEXTS)
    assert set(response.tensors) == {i.name for i in sentence_bundle.manifest.inputs}
    width = expected["input_ids"].shape[1]
    for name, array in response.tensors.items():
        assert array.shape[1] % 16 == 0 and np.array_equal(array[:, :width], expected[name])
        assert not array[:, width:].any()


def test_session_entries_of_int8_are_followed_or_said(
    sentence_package: Path, sentence_bundle: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = (sentence_package / "README.md").read_text()
    assert "may saturate" not in plain and "The license is none." in plain
    plan = plan_of("encoder", sentence_bundle.path)
    found = [Finding("error", "block 0", "int8 sums saturate")]
    monkeypatch.setattr("headway.exporter.package.triton.repository.lint", lambda file, target: found)
    assert "int8 matmuls of `encoder_encoder` may saturate: use `models-python` there" in _readme(plan, "")
    plan.manifest.session_options["config"] = {X64_PRECISION: "1", "other": "2"}
    assert plan.config == {"other": "2"} if adds_bytes_exactly() else {X64_PRECISION: "1", "other": "2"}


def test_configurations_name_what_is_there(sentence_package: Path) -> None:
    models = sentence_package / "models"
    assert {p.name for p in models.iterdir()} == {"encoder", "encoder_bls", "encoder_encoder", "encoder_tokenizer"}
    for config in sentence_package.rglob("config.pbtxt"):
        text = config.read_text()
        assert f'name: "{config.parent.name}"' in text and (config.parent / "1").is_dir()
        assert text.count("{") == text.count("}") and text.count("[") == text.count("]")
        for file in re.findall(r'input_data_file: "(\w+)"', text):
            assert (config.parent / "warmup" / file).stat().st_size == 16 * 8
        for step in re.findall(r'model_name: "(\w+)"', text):
            assert (models / step / "config.pbtxt").is_file()
    assert (models / "encoder_encoder" / "1" / "model.onnx").is_file()
    for code in sentence_package.rglob("*.py"):
        compile(code.read_text(), str(code), "exec")


def test_a_processor_runs_one_text_on_one_thread(sentence_package: Path) -> None:
    """There are as many instances as processors: with more threads they would take them from each other."""
    text = (sentence_package / "models" / "encoder_encoder" / "config.pbtxt").read_text()
    assert 'backend: "onnxruntime"' in text and "platform:" not in text and "kind: KIND_CPU" in text
    assert value_of(text, "intra_op_thread_count") == value_of(text, "inter_op_thread_count") == "1"


def test_an_engine_is_served_by_tensorrt_on_the_gpu(sentence_bundle: Exported, tmp_path: Path) -> None:
    bundle = headway.open(sentence_bundle.path)
    bundle.manifest = replace(sentence_bundle.manifest, target="tensorrt", runner="tensorrt")
    plan = TritonPlan("x", bundle, SpeedTable((16, 32), (0.01, 0.02)), False, bundle.manifest.outputs)
    _write_encoder(plan, tmp_path / "x_encoder")
    text = (tmp_path / "x_encoder" / "config.pbtxt").read_text()
    assert 'platform: "tensorrt_plan"' in text and "backend:" not in text
    assert "count: 1\n    kind: KIND_GPU" in text and "thread_count" not in text
    assert (tmp_path / "x_encoder" / "1" / "model.plan").is_file()


def test_operators_of_headway_s_own_lie_in_a_folder_beside_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "operators.so"
    library.write_bytes(b"code")
    monkeypatch.setattr(repository, "library_path", lambda: library)
    folder = tmp_path / "models" / "x_encoder" / "operators"
    assert _copy_library(folder) == "operators.so" and (folder / "operators.so").read_bytes() == b"code"
    monkeypatch.setattr(repository, "library_path", lambda: None)
    with pytest.raises(UsageError, match="kernels"):
        _copy_library(folder)


def test_a_classifier_has_a_head_with_labels(
    server: Any, workshop: Path, bert_classifier: Path, tmp_path: Path
) -> None:
    bundle = export(Recipe(source=str(bert_classifier)), workshop / "triton-classifier")
    write_repository(plan_of("classes", bundle.path), "", tmp_path)
    head = tmp_path / "models" / "classes_head"
    opened = headway.open(bundle.path)
    (response,) = loaded(head).execute([{"logits": Tensor("logits", opened(TEXTS)["logits"])}])
    expected = [list(s.values()) for s in opened.scores(TEXTS)]
    np.testing.assert_allclose(response.tensors["scores"], expected, atol=1e-6)
    assert (head / "labels.txt").read_text().split() == list(opened.scores(TEXTS[:1])[0])
    assert 'label_filename: "labels.txt"' in (tmp_path / "models" / "classes" / "config.pbtxt").read_text()


def test_other_targets_are_refused(sentence_bundle: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = headway.open(sentence_bundle.path)
    monkeypatch.setattr(repository.Bundle, "open", lambda *_, **__: bundle)
    for changes, says in (
        ({"target": "web"}, "not for target web; export with --target ort, ort-cuda, tensorrt"),
        ({"target": "ort-tensorrt"}, "not for target ort-tensorrt"),
        ({"task": "multiple-choice"}, "several texts"),
        ({"task": "multi-vector"}, "queries and documents in two ways"),
    ):
        bundle.manifest = replace(sentence_bundle.manifest, **changes)
        with pytest.raises(UsageError, match=says):
            plan_of("x", sentence_bundle.path)


def test_triton_s_schema_reads_the_configurations(sentence_package: Path) -> None:
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed")
    from google.protobuf import text_format

    for config in sentence_package.rglob("config.pbtxt"):
        assert text_format.Parse(config.read_text(), schema.ModelConfig()).name == config.parent.name
