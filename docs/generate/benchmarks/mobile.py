"""All targets that run on phones, and packages of a given size."""

from typing import Any

from .. import markdown
from .results import origin, read, recorded, source


def table() -> str:
    """Return every target and dtype of two models: size, parity, accuracy, latency."""
    rows = []
    for model, combinations in read("mobile")["table"].items():
        rows += [_row(model, row) for row in combinations if row["reason"] is None]
    head = [
        "one text of 64 tokens, one core",
        "dtype",
        "MB",
        "parity",
        "accuracy, %",
        "latency relative to ort float32",
        "not delegated",
    ]
    return markdown.join(markdown.table(head, rows), source("mobile"))


def _row(model: str, row: dict[str, Any]) -> list[str]:
    figures = ["not run"] * 3
    if row["ms"] is not None:
        quality = "random weights" if row["quality"] is None else f"{row['quality']:.2f}"
        ratio = "1" if (row["target"], row["dtype"]) == ("ort", "fp32") else markdown.interval(row["ratio"])
        figures = [quality, ratio, str(row["not_delegated"])]
    return [f"{model}, {row['target']}", row["dtype"], f"{row['mb']:.1f}", f"{row['parity']:.1e}", *figures]


def refused() -> str:
    """Return what targets refuse, with the reason they give."""
    reasons: dict[tuple[str, str], str] = {}
    for combinations in read("mobile")["table"].values():
        for row in combinations:
            if row["reason"] is not None:
                reasons.setdefault((row["target"], row["dtype"]), row["reason"])
    rows = [[target, dtype, markdown.sentence(reason)] for (target, dtype), reason in reasons.items()]
    return markdown.table(["target", "dtype", "message"], rows)


def packages() -> str:
    """Return packages for Android of a given size, and what they lose."""
    rows = []
    for package in read("mobile")["packages"]:
        rows.append(
            [
                f"{package['task']}, {package['metric']}, `{package['recipe']}.yaml`",
                f"{package['float32']:.2f}",
                f"{package['quality']:.2f}",
                f"{package['mb']:.2f}",
            ]
        )
    head = ["MiniLM-L6 packaged for Android, everything counted", "float32", "package", "MB"]
    return markdown.join(markdown.table(head, rows), source("mobile"))


def agreement() -> str:
    """Return how far the answers of the news packages agree with the source's own."""
    news = [p["stages"][-1]["quality"] for p in read("mobile")["packages"] if p["task"] == "news"]
    larger, smaller = news
    return (
        "On held-out text like the training text, similarities of the two news packages correlate with the source's own by "
        f"{larger:.0f} and {smaller:.0f} of 100."
    )


def runtimes() -> str:
    """Return ExecuTorch, LiteRT and Core ML files of one sentence encoder."""
    noted = recorded("phone-runtimes")
    return markdown.join(markdown.table(noted["head"], noted["rows"]), origin("phone-runtimes"))


def library() -> str:
    """Return the size of the runtime that comes on top of a package."""
    noted = recorded("runtime-library")
    text = f"The library of ONNX Runtime for aarch64 Linux, a full build, has {noted['mb']} MB ({noted['compressed_mb']} MB compressed)."
    return markdown.join(text, origin("runtime-library"))


def snippets() -> str:
    """Return what was done with the code written for apps."""
    result = read("snippets")
    kotlin = ", ".join(result["kotlin"])
    largest = result["javascript"]["last_hidden_state"]
    text = (
        f"The Kotlin for {kotlin} compiles against declarations of the runtimes' classes. The JavaScript runs in onnxruntime-web; "
        f"its answer differs from Python's by at most {largest:.1e}."
    )
    return markdown.join(text, source("snippets"))
