"""The CPU kernels, operator by operator."""

from .. import markdown
from .results import read, source

_LIMITS = {"matrix product": "matmul"}


def table(threads: int) -> str:
    """Return every operator with its share of what the machine can do at best."""
    name = f"kernels-{threads}-threads"
    rows = []
    for row in read(name)["rows"]:
        if row["op"] == "attention by padding":
            continue
        others = [f"{ratio:.2f}" for who, ratio in row["times_as_long"].items() if who != "headway"]
        limit = _LIMITS.get(row["limit"], row["limit"])
        share = f"{100 * row['share']['headway']:.0f} % ({limit})"
        rows.append([row["op"], row["case"], f"{row['p50_ms']['headway']:.2f}", share, *others])
    title = "operator, 1 thread" if threads == 1 else f"operator, {threads} threads"
    head = [title, "case", "Headway, ms", "share of the limit", "ONNX Runtime, times as long", "torch, times as long"]
    return markdown.join(markdown.table(head, rows), source(name))


def one_thread() -> str:
    """Return the table of one thread."""
    return table(1)


def two_threads() -> str:
    """Return the table of two threads."""
    return table(2)


def padding() -> str:
    """Return attention over the same tokens as the share of padding grows."""
    columns = {
        "headway": "packed, ms",
        "headway, padded": "padded with lengths, ms",
        "ONNX Runtime": "ONNX Runtime, ms",
        "headway, padding off and on": "removing and restoring padding, ms",
    }
    rows = []
    for row in read("kernels-1-threads")["rows"]:
        if row["op"] == "attention by padding":
            rows.append([row["case"], *(f"{row['p50_ms'][who]:.2f}" for who in columns)])
    return markdown.join(markdown.table(["padding", *columns.values()], rows), source("kernels-1-threads"))


def memory() -> str:
    """Return by how much many calls grow the process."""
    result = read("kernels-memory")
    text = (
        f"{result['calls'] / 1e6:.1f} million calls on random shapes, {result['refused']:,} of them refused for bad input, "
        f"grow the process by {result['growth_mb']:.1f} MB after the first tenth."
    )
    return markdown.join(text, source("kernels-memory"))
