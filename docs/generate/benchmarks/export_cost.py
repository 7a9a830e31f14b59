"""Time and memory of an export, beside Optimum's."""

from .. import markdown
from .results import read, source


def table() -> str:
    """Return wall time and peak memory by model."""
    result = read("export-cost")
    imports = f"{result['bare_import_peak'] / 1e6:.0f} MB"
    mini, base, big = result["minilm"], result["bert_base"], result["big"]
    peak = max(ours["peak"] for ours, _ in mini["pairs"])
    rows = [
        [
            f"all-MiniLM-L6-v2, {mini['weights'] / 1e6:.0f} MB",
            markdown.interval(mini["ratio"]),
            f"{peak / 1e6:.0f} MB, of which importing torch and transformers {imports}",
            f"{mini['optimum_peak_to_weights']:.1f} × the weights",
        ],
        [
            f"random BERT-base, {base['weights'] / 1e6:.0f} MB",
            markdown.interval(base["ratio"]),
            f"{base['peak_to_weights']:.1f} × the weights, imports included",
            f"{base['optimum_peak_to_weights']:.1f} × the weights",
        ],
        [
            f"random encoder, {big['weights'] / 1e9:.1f} GB",
            f"{big['seconds']:.0f} s, Headway alone",
            f"{big['peak_to_weights']:.1f} × the weights",
            "",
        ],
    ]
    head = [
        "export, whole process",
        "Headway / `optimum-cli export onnx`, wall time",
        "peak memory, Headway",
        "peak memory, Optimum",
    ]
    return markdown.join(markdown.table(head, rows), source("export-cost"))
