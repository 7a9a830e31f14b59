"""The same bundles and kernels on emulated arm64 processors."""

from typing import Any

from .. import markdown
from .results import origin, read, recorded, source

_NAMES = {
    "int8": "int8, Headway's kernels",
    "ONNX Runtime dynamic int8": "ONNX Runtime dynamic int8, per channel",
    "minilm-l6-ort-mobile-fp32/model.ort": "`.ort` of its movie classifier: float32",
    "minilm-l6-ort-mobile-fp16/model.ort": "`.ort` of its movie classifier: float16",
    "minilm-l6-ort-mobile-int8/model.ort": "`.ort` of its movie classifier: int8",
    "litert-fp32/model.tflite": "LiteRT float32",
    "litert-int8/model.tflite": "LiteRT int8",
    "minilm-l6-executorch-fp32": "`.pte` of its movie classifier: float32",
    "minilm-l6-executorch-int8": "`.pte` of its movie classifier: int8",
}
PROCESSORS = {"cortex-a53": "Cortex-A53", "cortex-a76": "Cortex-A76", "neoverse-n1": "Neoverse N1"}


def table() -> str:
    """Return answers on arm64 beside those on x86. Of several processors the one that differs most is shown."""
    rows = []
    for name, artifact in read("arm")["artifacts"].items():
        there = max((artifact[p] for p in PROCESSORS if p in artifact), key=lambda row: row["largest_difference"])
        otherwise = artifact.get("fused_otherwise_here")
        rows.append(
            [
                _NAMES.get(name, name),
                f"{there['largest_difference']:.1e}",
                f"{there['least_cosine']:.6f}",
                _otherwise(otherwise),
                *_to_float32(name, artifact, there),
            ]
        )
    head = [
        "all-MiniLM-L6-v2; 6 lines, each alone and as a batch",
        "largest difference to x86",
        "least cosine to x86",
        "on x86, fused otherwise",
        "cosine to float32 on x86: mean / least",
        "on arm64",
    ]
    return markdown.join(markdown.table(head, rows), source("arm"))


def _otherwise(answers: dict[str, Any] | None) -> str:
    if answers is None or not answers["largest_difference"]:
        return ""
    return f"{answers['largest_difference']:.1e}, {answers['least_cosine']:.6f}"


def _to_float32(name: str, artifact: dict[str, Any], there: dict[str, Any]) -> list[str]:
    if name == "float32" or not artifact["to_first_here"]:
        return ["", ""]
    return [markdown.pair(artifact["to_first_here"], 5), markdown.pair(there["to_first"], 5)]


def processors() -> str:
    """Return every processor on which an artifact differs from x86 by another amount than on the others."""
    rows = []
    for name, artifact in read("arm")["artifacts"].items():
        figures = {
            p: (artifact[p]["largest_difference"], artifact[p]["least_cosine"]) for p in PROCESSORS if p in artifact
        }
        cells = [f"{figures[p][0]:.1e}, {figures[p][1]:.6f}" if p in figures else "not run" for p in PROCESSORS]
        rows.append([_NAMES.get(name, name), *cells])
    return markdown.table(["largest difference to x86, least cosine", *PROCESSORS.values()], rows)


def kernels() -> str:
    """Return how the kernels' own tests went on each processor, and which operators give the bits of x86."""
    later = recorded("arm-kernels")
    rows = []
    for processor, kernel_tests in read("arm")["kernels"].items():
        rows.append([PROCESSORS[processor], kernel_tests["tests"].split(",")[0], str(later["passed"][processor])])
    head = ["processor", "tests of the kernels", "after operators were added: passed"]
    return markdown.join(markdown.table(head, rows), source("arm"), origin("arm-kernels"))


def versions() -> str:
    """Return what ran in the emulator, with versions."""
    return ", ".join(f"{name} {version}" for name, version in read("arm")["there"].items()) + "."
