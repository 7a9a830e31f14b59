"""The small table of the README: one figure from each of the main benchmarks."""

from .. import markdown
from .results import read


def table() -> str:
    """Return one row per subject, each with its page."""
    plain = read("minilm-1-threads")["geometric_mean"]
    int8 = read("int8")
    timed = int8["speed"]["1 threads"]["geometric_mean"]
    ours, peer = (
        int8["cosine"][name]["English sentences"][1] for name in ("Headway int8", "ONNX Runtime dynamic, by channel")
    )
    rows_of = {task: read(f"compression-{task}")["rows"] for task in ("movies",)}
    cut = next(r for r in rows_of["movies"] if (r["method"], r["wanted"]) == ("Headway", 2.0))
    random = next(r for r in rows_of["movies"] if (r["method"], r["wanted"]) == ("random removal", 2.0))
    before = rows_of["movies"][0]
    package = next(p for p in read("mobile")["packages"] if p["recipe"] == "mobile-12mb" and p["task"] == "movies")
    rows = [
        [
            "float32, ONNX Runtime's operators",
            f"OpenVINO takes {plain['OpenVINO']:.2f} times as long, Optimum O3 {plain['Optimum O3']:.2f}",
            "[float32](docs:benchmarks/float32.md)",
        ],
        [
            "float32, Headway's kernels",
            f"{plain['Headway kernels']:.2f} times as long as the row above",
            "[kernels](docs:benchmarks/kernels.md)",
        ],
        [
            "int8",
            f"float32 takes {timed['Headway float32']:.2f} times as long, "
            f"ONNX Runtime's dynamic int8 {timed['ONNX Runtime dynamic, by channel']:.2f}; "
            f"least cosine to float32 {ours:.4f}, ONNX Runtime's {peer:.4f}",
            "[int8](docs:benchmarks/int8.md)",
        ],
        [
            f"heads, neurons and ranks cut to {cut['speedup']:.2f}× the speed",
            f"accuracy {cut['quality']:.1f} % (source: {before['quality']:.1f} %); random removal leaves {random['quality']:.1f} %",
            "[compression](docs:benchmarks/compression.md)",
        ],
        [
            f"Android package of {package['mb']:.1f} MB, tokenizer included",
            f"accuracy {package['quality']:.1f} % (source: {package['float32']:.1f} %)",
            "[phones](docs:benchmarks/mobile.md)",
        ],
    ]
    return markdown.table(["all-MiniLM-L6-v2, one thread of an x86 CPU", "measured", "details"], rows)
