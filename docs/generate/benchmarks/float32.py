"""Float32 against other runtimes and exporters."""

from .. import markdown
from .results import origin, read, recorded, source

SHOWN = ("Headway kernels", "Optimum O2", "Optimum O3", "ONNX Runtime fused", "OpenVINO", "CTranslate2")
_NAMES = {"Headway kernels": "`--kernels custom`"}


def _label(case: dict) -> str:
    padding = case["padding"]
    return f"{case['label']}, {100 * padding:.0f} % padding" if padding else case["label"]


def table(threads: int) -> str:
    """Return latency ratios to Headway's bundle by workload, and their geometric means."""
    name = f"minilm-{threads}-threads"
    result = read(name)
    head = ["1 thread" if threads == 1 else f"{threads} threads", "Headway, ms"]
    rows = []
    for case in result["cases"]:
        ratios = [markdown.interval(case["ratio_to_first"][who]) for who in SHOWN]
        rows.append([_label(case), f"{case['p50_ms']['Headway']:.1f}", *ratios])
    means = [f"**{result['geometric_mean'][who]:.2f}**" for who in SHOWN]
    rows.append(["geometric mean", "", *means])
    head += [_NAMES.get(who, who) for who in SHOWN]
    return markdown.join(markdown.table(head, rows), source(name))


def one_thread() -> str:
    """Return the table of one thread."""
    return table(1)


def two_threads() -> str:
    """Return the table of two threads."""
    return table(2)


def custom_kernels() -> str:
    """Return what the custom kernels gain against the runtime's fused graph on mixed batches."""
    case = read("minilm-1-threads")["cases"][-1]
    ratio = case["p50_ms"]["ONNX Runtime fused"] / case["p50_ms"]["Headway kernels"]
    return (
        f"With `--kernels custom`, one thread and the mixed batch, the fused graph of ONNX Runtime takes {ratio:.1f} times as long. "
        "By medians, no peer is faster in any row, on one thread or two."
    )


def fusions() -> str:
    """Return which fused operators of the runtime pay."""
    result = read("fusions")
    rows = []
    for name, fusion in result.items():
        if isinstance(fusion, dict) and "ratio" in fusion:
            rows.append(
                [f"`{name}`" if " " not in name else name, markdown.interval(fusion["ratio"]), fusion["verdict"]]
            )
    batch, tokens, hidden = result["shape"]
    intro = f"{batch} × {tokens} tokens, hidden size {hidden}, one thread. Below 1, the fused operator is slower."
    head = ["fused operator", "separate operators, times as long", "verdict"]
    return markdown.join(intro, markdown.table(head, rows), source("fusions"))


def operators() -> str:
    """Return the share of each kind of operator in the time of one model."""
    noted = recorded("operator-shares")
    rows = [[f"1x{length}", *(f"{share} %" for share in shares)] for length, shares in noted["percent"].items()]
    head = ["all-MiniLM-L6-v2, 1 thread", *noted["operators"]]
    return markdown.join(markdown.table(head, rows), origin("operator-shares"))
