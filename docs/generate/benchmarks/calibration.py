"""What calibration costs, beside ONNX Runtime's `quantize_static`."""

import statistics

from .. import markdown
from .results import read, source


def table() -> str:
    """Return time and memory by method, relative to Headway's."""
    result = read("calibration-cost")
    rows = []
    for name, row in result["rows"].items():
        ours, theirs = ([pair[i]["peak"] for pair in row["pairs"]] for i in range(2))
        rows.append(
            [
                name,
                markdown.interval(row["wall"], 1),
                markdown.interval(row["cpu"], 1),
                f"{max(theirs) / 1e6:.0f}",
                f"{max(ours) / 1e6:.0f}",
                f"{row['peak_ratio_above_imports']:.1f}",
            ]
        )
    head = [
        f"`quantize_static`, {result['texts']} sentences, MiniLM-L6",
        "wall time, × Headway's",
        "processor time, × Headway's",
        "peak memory, MB",
        "Headway's, MB",
        "above imports, × Headway's",
    ]
    return markdown.join(markdown.table(head, rows), source("calibration-cost"))


def details() -> str:
    """Return where the time goes, and what 100,000 sentences take."""
    result = read("calibration-cost")
    ours = statistics.median(pair[0]["cpu"] for pair in result["rows"]["min-max"]["pairs"])
    imports = result["imports"]["headway"]
    many = result["many"]
    text = f"{many['resident'][-1][0]:,} sentences, with histograms of all those activations and one worker"
    first, last = many["resident"][0], many["resident"][-1]
    agreement = result["agreement"]
    return "\n".join(
        [
            f"- Headway's min-max takes {ours:.1f} s of processor time, of which {imports['cpu']:.1f} s are imports. "
            f"Imports take {imports['peak'] / 1e6:.0f} MB of the memory.",
            f"- Where definitions agree, ranges do: min-max to {agreement['min-max']:.0e} of the activation's magnitude, "
            f"the 99.9th percentile to {agreement['percentile']:.0e} (one bin of each).",
            f"- {text}, take {many['cpu']:.0f} s of processor time. "
            f"Resident memory is {first[1] / 1e6:.0f} MB after the first thousand and {last[1] / 1e6:.0f} MB after the last.",
        ]
    )
