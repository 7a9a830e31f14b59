"""onnxruntime-web in WebAssembly."""

from .. import markdown
from .results import origin, read, recorded, source

_NAMES = {"plain export": "plain export, as on hubs"}


def table() -> str:
    """Return latency in WebAssembly: milliseconds of Headway's models, ratios of the others."""
    result = read("web")
    shapes = list(next(iter(result["models"].values()))["ms"])
    groups: dict[str, list[str]] = {}
    for name, row in result["models"].items():
        groups.setdefault(row["times_as_long_as"], []).append(name)
    rows = []
    for base, members in groups.items():
        for name in [base, *sorted((m for m in members if m != base), key=lambda m: not m.startswith("plain export"))]:
            row = result["models"][name]
            if name == base:
                cells = [f"{row['ms'][shape]:.1f} ms" for shape in shapes]
                label = name
            else:
                cells = [markdown.interval(row["ratio"][shape]) for shape in shapes]
                label = f"{_NAMES.get(name, name)}: times as long as {base}"
            rows.append(
                [label.replace("by channel", "per channel"), f"{row['mb']:.1f}", markdown.pair(row["cosine"]), *cells]
            )
    head = [
        f"all-MiniLM-L6-v2 in onnxruntime-web {result['onnxruntime-web']}, 1 thread",
        "MB",
        "cosine to float32, 24 languages: mean / least",
        *shapes,
    ]
    return markdown.join(markdown.table(head, rows), source("web"))


def int4() -> str:
    """Return why int4 weights are unpacked."""
    noted = recorded("web-int4")
    short, long = noted["times_as_long"].items()
    text = (
        f"int4 weights are unpacked while the model is loaded. Multiplied as they are, they took {short[1]} times as long "
        f"at {short[0]} tokens and {long[1]} times at {long[0]}."
    )
    return markdown.join(text, origin("web-int4"))


def tokenizers() -> str:
    """Return on how many lines readers in JavaScript give other ids."""
    noted = recorded("web-tokenizers")
    return markdown.join(markdown.table(noted["head"], noted["rows"]), origin("web-tokenizers"))
