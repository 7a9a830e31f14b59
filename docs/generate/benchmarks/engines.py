"""Engines built without a GPU: parity, size, time to build."""

from .. import markdown
from .results import origin, read, recorded, source

_NAMES = {
    "int8+fp16": "int8 by `quantize`, fp16",
    "crude int8+fp16": "int8, the simplest scheme, fp16",
    "uneven+fp16": "fewer heads and neurons, uneven, fp16",
    "low-rank+fp16": "low rank, fp16",
}
_UNREPAIRED = ("uneven+fp16", "low-rank+fp16")


def table() -> str:
    """Return parity, size and time to build of each variant."""
    result = read("engines")
    rows = []
    for row in result["rows"]:
        name = row["variant"]
        to_source = "not repaired" if name in _UNREPAIRED else f"{row['cosine_to_source']:.4f}"
        rows.append(
            [
                _NAMES.get(name, name),
                f"{row['max_abs']:.1e}",
                f"{row['cosine']:.6f}",
                to_source,
                markdown.megabytes(row["onnx_bytes"]),
                markdown.megabytes(row["engine_bytes"]),
                f"{min(row['seconds']):.1f}",
            ]
        )
    head = [
        "variant",
        "largest difference to its own float32 graph",
        "least cosine",
        "to the source",
        "ONNX, MB",
        "engine, MB",
        "build, s",
    ]
    gpus = ", ".join(result["gpus"][:-1]) + " and " + result["gpus"][-1]
    intro = f"One engine for {gpus}, with three profiles, built on a CPU."
    return markdown.join(intro, markdown.table(head, rows), source("engines"))


def plugin() -> str:
    """Return parity of the graph with attention as a plugin."""
    noted = recorded("plugin-parity")
    text = (
        f"all-MiniLM-L6-v2 in float16 with the plugin nodes computed by their float64 reference: hidden states within "
        f"{noted['hidden_states']} of the source, least cosine of the sentence embedding {noted['least_cosine']}."
    )
    return markdown.join(text, origin("plugin-parity"))
