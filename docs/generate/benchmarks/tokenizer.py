"""The tokenizer reader for phones."""

from .. import markdown
from .results import origin, read, recorded, source


def agreement() -> str:
    """Return on how many lines a tokenizer gives other ids than the bundle's own."""
    in_graph = recorded("tokenizer-in-graph")
    reader = read("reader")["agreement"]
    rows = [
        ["reader for phones", f"{reader['different']:,}", "none" if not reader["different"] else "see `reader.json`"],
        [
            f"in the graph, onnxruntime-extensions {in_graph['version']}",
            f"{in_graph['different']:,}",
            in_graph["classes"],
        ],
    ]
    head = [f"MiniLM's tokenizer, {reader['lines']:,} lines", "lines with other ids", "classes of text that differ"]
    return markdown.join(markdown.table(head, rows), source("reader"), origin("tokenizer-in-graph"))


def speed() -> str:
    """Return lines per second and sizes, beside the library `tokenizers`."""
    result = read("reader")
    rows = []
    for name, label in (("ordinary", "ordinary text, lines per second"), ("mixed", "mixed Unicode, lines per second")):
        rates = result[name]["lines_a_second"]
        rows.append(
            [label, f"{rates['reader']:,.0f}", f"{rates['tokenizers']:,.0f}", markdown.interval(result[name]["ratio"])]
        )
    opening, size = result["open_ms"], result["bytes"]
    rows.append(["opening, ms", f"{opening['reader']:.1f}", f"{opening['tokenizers']:.1f}", ""])
    rows.append(["file, bytes", f"{size['tokenizer.bin']:,}", f"{size['tokenizer.json']:,}", ""])
    head = ["one thread, x86-64", "reader", "`tokenizers`, its call without offsets", "times as fast"]
    library = f"The compiled reader takes {size['library'] / 1e3:.0f} kB."
    return markdown.join(markdown.table(head, rows), library, source("reader"))
