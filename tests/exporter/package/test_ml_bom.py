"""The bill of materials: complete, repeatable, and valid where the validator is installed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from headway.errors import SourceError
from headway.exporter.export import Exported
from headway.exporter.package.ml_bom import _model, _needed, bill_of, bill_text
from headway.manifest import MANIFEST, digest


def test_all_files_libraries_and_figures_are_there(sentence_bundle: Exported) -> None:
    bill = bill_of(sentence_bundle.path)
    manifest = sentence_bundle.manifest
    files = {c["name"]: c["hashes"][0]["content"] for c in bill["components"] if c["type"] == "file"}
    assert files == {name: record["sha256"] for name, record in manifest.files.items()}
    libraries = {c["name"]: c for c in bill["components"] if c["type"] == "library"}
    assert {"onnxruntime", "tokenizers", "numpy"} <= {n for n, c in libraries.items() if c["scope"] == "required"}
    assert (
        libraries["onnxruntime"]["version"] == manifest.libraries["onnxruntime"]
        and "licenses" in libraries["onnxruntime"]
    )
    model = bill["metadata"]["component"]
    assert model["hashes"] == [{"alg": "SHA-256", "content": digest(sentence_bundle.path / MANIFEST)}]
    assert model["modelCard"]["modelParameters"]["task"] == manifest.task
    assert len(model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]) == 2 * len(manifest.parity["outputs"])
    references = [c["bom-ref"] for c in (model, *bill["components"])]
    assert len(references) == len(set(references))
    assert set(bill["dependencies"][0]["dependsOn"]) <= set(references)


def test_what_opens_the_artifact_is_required(sentence_bundle: Exported) -> None:
    manifest = replace(sentence_bundle.manifest, runner="tensorrt", anatomy={"blocks": []})
    assert _needed(manifest) == {"tensorrt", "tokenizers", "numpy"}
    bill = _model(sentence_bundle.path, manifest, "0" * 64)
    assert "architectureFamily" not in bill["modelCard"]["modelParameters"]


@pytest.mark.parametrize(("source", "named"), [({"model_type": "bert"}, "bert"), ({}, "unknown")])
def test_the_architecture_is_the_source_s_or_unknown(
    source: dict[str, str], named: str, sentence_bundle: Exported
) -> None:
    card = _model(sentence_bundle.path, replace(sentence_bundle.manifest, source=source), "0" * 64)["modelCard"]
    assert card["modelParameters"]["modelArchitecture"] == named


def test_the_same_bundle_gives_the_same_bill(sentence_bundle: Exported, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sentence_bundle.path, tmp_path / sentence_bundle.path.name))
    assert bill_text(copy) == bill_text(sentence_bundle.path)
    (copy / "config.json").write_text("{}")
    with pytest.raises(SourceError):
        bill_of(copy)


def test_licenses_of_the_source_are_in_it(sentence_bundle: Exported, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sentence_bundle.path, tmp_path / "licensed"))
    (copy / "LICENSE").write_text("Do what is right.\n")
    raw = json.loads((copy / MANIFEST).read_text())
    raw["files"]["LICENSE"] = {"sha256": digest(copy / "LICENSE"), "bytes": 18}
    raw["source"]["license"] = "apache-2.0"
    (copy / MANIFEST).write_text(json.dumps(raw))
    declared, text = bill_of(copy)["metadata"]["component"]["licenses"]
    assert declared == {"license": {"name": "apache-2.0"}}
    assert text["license"]["text"]["content"] == "Do what is right.\n"


def test_the_schema_of_cyclonedx_takes_it(sentence_bundle: Exported) -> None:
    pytest.importorskip("jsonschema", reason="cyclonedx-python-lib[json-validation] is not installed")
    validation = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed")
    from cyclonedx.schema import SchemaVersion

    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill_text(sentence_bundle.path)) is None
