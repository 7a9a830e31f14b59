"""int8 beside other int8: answers, time, what tasks lose."""

from .. import markdown
from .results import read, renamed, source

_ENGLISH, _KNOWN, _MORE = "English sentences", "lines in 24 languages", "paragraphs in 200 languages"


def fidelity() -> str:
    """Return how near each int8 model's answers are to float32."""
    result = read("int8")
    rows = []
    for name, cosines in result["cosine"].items():
        cells = [markdown.pair(cosines[kind]) for kind in (_ENGLISH, _KNOWN, _MORE)]
        rows.append([renamed(name), f"{result['mb'][name]:.1f}", *cells])
    head = [
        "all-MiniLM-L6-v2, int8",
        "MB",
        "cosine to float32, English sentences: mean / least",
        "in 24 languages that no calibration saw",
        "in 218 more",
    ]
    return markdown.join(markdown.table(head, rows), source("int8"))


def speed() -> str:
    """Return latency ratios to Headway int8 by workload."""
    result = read("int8")["speed"]["1 threads"]
    ours, *others = result["contestants"]
    rows = []
    for case in result["cases"]:
        ratios = [markdown.interval(case["ratio_to_first"][who]) for who in others]
        rows.append([case["label"], f"{case['p50_ms'][ours]:.1f}", *ratios])
    head = ["1 thread, latency relative to Headway int8", "Headway int8, ms", *(renamed(who) for who in others)]
    return markdown.join(markdown.table(head, rows), source("int8"))


def tasks() -> str:
    """Return what two tasks lose."""
    quality = read("int8")["tasks"]
    names = {"float32": "float32", "int8": "Headway int8", "int8 stock": "Headway int8 stock"}
    rows = [[names[kind], f"{row['accuracy']:.2f}", f"{row['correlation']:.2f}"] for kind, row in quality.items()]
    return markdown.join(
        markdown.table(["", "movie classifier: accuracy, %", "news similarity: Pearson × 100"], rows), source("int8")
    )


def avx2() -> str:
    """Return answers and latency with AVX2 alone."""
    result = read("int8-avx2")
    timed = result["speed"]
    cosines = result["cosine"]["AVX2 alone"]
    names = {"Headway": "Headway int8"} | {who: who for who in timed["contestants"][1:]}
    rows = []
    for who, name in names.items():
        cosine = markdown.pair(cosines[name][_ENGLISH]) if name in cosines else markdown.pair((1.0, 1.0))
        ratios = ["1" if who == "Headway" else f"{case['ratio_to_first'][who][0]:.2f}" for case in timed["cases"]]
        rows.append([renamed(name), cosine, *ratios])
    head = ["AVX2 alone", "cosine, English: mean / least", *(case["label"] for case in timed["cases"])]
    return markdown.join(markdown.table(head, rows), source("int8-avx2"))


def avx2_saturation() -> str:
    """Return the sum that shows which instructions each side used."""
    proof = read("int8-avx2")["proof"]
    rows = []
    for mode, sides in proof.items():
        for side, shown in sides.items():
            rows.append([mode, side, f"{shown['sum']:,}", f"{shown['float32_ms']:.1f}"])
    return markdown.table(["instructions", "process of", "sum of bytes that saturates", "float32 matmul, ms"], rows)


def linear() -> str:
    """Return the int8 layer by itself, as geometric means over its shapes."""
    rows = []
    for threads in (1, 2):
        means = read(f"quantized-linear-{threads}-threads")["geometric_mean"]
        rows.append([str(threads), *(f"{means[op]:.2f}" for op in ("linear", "gelu", "feed-forward"))])
    head = ["threads", "`QuantizedLinear`", "with GELU", "`QuantizedFeedForward`"]
    return markdown.join(markdown.table(head, rows), source("quantized-linear-1-threads", "quantized-linear-2-threads"))
