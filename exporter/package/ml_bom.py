"""Write what a bundle consists of as a CycloneDX 1.6 bill of materials for machine learning (ML-BOM).

Source: CycloneDX 1.6, `modelCard` and components. The same bundle gives the same bytes: nothing of this machine or moment is in it but the
licenses that installed libraries declare.
"""

import importlib.metadata
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ... import __version__
from ...manifest import MANIFEST, Manifest, digest, read_checked
from ..source.license import LICENSE_FILES

SPEC = "1.6"
_ALWAYS = ("tokenizers", "numpy")
_RUNTIMES = {"onnxruntime": "onnxruntime", "tensorrt": "tensorrt", "executorch": "executorch", "coreml": "coremltools"}
_RUNTIMES |= {"litert": "ai-edge-litert"}
"""By runner, the library that opens the artifact."""

_MAKING = "urn:headway:made-with"


def bill_of(bundle: Path) -> dict[str, Any]:
    """Return the bill of a bundle. SourceError where one of its files is missing or changed."""
    manifest = read_checked(bundle)
    own = digest(bundle / MANIFEST)
    files = [_file(name, record["sha256"]) for name, record in sorted(manifest.files.items())]
    needed = _needed(manifest)
    libraries = [_library(name, version, name in needed) for name, version in sorted(_libraries(manifest).items())]
    model = _model(bundle, manifest, own)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, own)}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "headway", "version": __version__}]},
            "component": model,
        },
        "components": [*files, *libraries],
        "dependencies": [
            {
                "ref": model["bom-ref"],
                "dependsOn": [c["bom-ref"] for c in (*files, *libraries) if not _took_part(c)],
            }
        ],
    }


def bill_text(bundle: Path) -> str:
    """Return the bill as JSON."""
    return json.dumps(bill_of(bundle), indent=2, ensure_ascii=False) + "\n"


def _took_part(component: Mapping[str, Any]) -> bool:
    return component.get("scope") == "excluded"


def _model(bundle: Path, manifest: Manifest, own: str) -> dict[str, Any]:
    source = manifest.source
    properties = {
        "headway:target": manifest.target,
        "headway:artifact": manifest.artifact,
        "headway:source-fingerprint": str(source.get("fingerprint", "")),
        "headway:source-kind": str(source.get("kind", "")),
        "headway:parity": "holds" if manifest.parity.get("ok") else "does not hold",
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": f"headway-bundle-{own[:16]}",
        "name": bundle.resolve().name,
        "version": own[:16],
        "hashes": [{"alg": "SHA-256", "content": own}],
        "licenses": _licenses(bundle, manifest),
        "modelCard": {
            "modelParameters": {
                "task": manifest.task,
                **({"architectureFamily": "transformer"} if manifest.anatomy.get("blocks") else {}),
                "modelArchitecture": str(source.get("model_type") or "unknown"),
                "inputs": [{"format": f"{t.name}: {t.dtype} {list(t.shape)}"} for t in manifest.inputs],
                "outputs": [{"format": f"{t.name}: {t.dtype} {list(t.shape)}"} for t in manifest.outputs],
            },
            "quantitativeAnalysis": {"performanceMetrics": _metrics(manifest)},
        },
        "properties": [{"name": name, "value": value} for name, value in sorted(properties.items())],
    }


def _metrics(manifest: Manifest) -> list[dict[str, Any]]:
    """Return how far each output is from the source's, as it was measured."""
    metrics = []
    for output in manifest.parity.get("outputs", []):
        for kind in ("max_abs", "cosine"):
            if kind in output:
                metrics.append({"type": f"{kind} to the source", "slice": output["name"], "value": f"{output[kind]:g}"})
    return metrics


def _licenses(bundle: Path, manifest: Manifest) -> list[dict[str, Any]]:
    """Return what the source says of its license: the name that it declares, and the texts that came with it."""
    licenses: list[dict[str, Any]] = []
    declared = manifest.source.get("license")
    if declared:
        licenses.append({"license": {"name": str(declared)}})
    for name in LICENSE_FILES:
        if name in manifest.files:
            text = (bundle / name).read_text("utf-8", "replace")
            licenses.append({"license": {"name": name, "text": {"contentType": "text/plain", "content": text}}})
    return licenses


def _file(name: str, sha256: str) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{name}",
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
    }


def _needed(manifest: Manifest) -> set[str]:
    """Return the libraries that a bundle needs where it runs; the others took part in making it."""
    return {*_ALWAYS, _RUNTIMES.get(manifest.runner, manifest.runner)}


def _libraries(manifest: Manifest) -> dict[str, str]:
    """Return the libraries that took part, by the versions that the manifest names, without Python itself."""
    libraries = {name: version for name, version in manifest.libraries.items() if name not in ("python", "headway")}
    for name in _needed(manifest):
        libraries.setdefault(name, "")
    return libraries


def _library(name: str, version: str, needed: bool) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": f"pypi:{name}" if needed else f"{_MAKING}:{name}",
        "name": name,
        "scope": "required" if needed else "excluded",
    }
    if version:
        component["version"] = version
        component["purl"] = f"pkg:pypi/{name.lower().replace('_', '-')}@{version.replace('+', '%2B')}"
    declared = _declared_license(name)
    if declared:
        component["licenses"] = [{"license": {"name": declared}}]
    return component


def _declared_license(name: str) -> str | None:
    """Return what an installed library says of its license; None where it is not installed, or gives a whole text."""
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    for key in ("License-Expression", "License"):
        value = str(metadata[key]) if key in metadata else ""
        if value and len(value) < 100 and "\n" not in value:
            return value
    classifiers = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    return classifiers[0].rpartition(" :: ")[2] if classifiers else None
