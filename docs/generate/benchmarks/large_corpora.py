"""What a very large corpus takes on a cluster: measured costs, and what is worked out from them."""

from .. import markdown
from .results import read, source


def costs() -> str:
    """Return what was measured on one machine."""
    result = read("limits")
    found = result["costs"]
    rows = [
        [
            "a text, one thread",
            f"{1000 * found['text_seconds']:.1f} ms, on {found['texts']:,} sentences of film reviews "
            f"of {found['tokens'] / found['texts']:.0f} tokens",
        ],
        [
            "what is counted, on its way from a node",
            f"{found['sums_bytes'] / 1e6:.1f} MB, however many texts are in it",
        ],
        ["a merge of two of these", f"{1000 * found['merge_seconds']:.0f} ms"],
        ["what every node is sent once", f"{found['sent_bytes'] / 1e6:.1f} MB"],
    ]
    return markdown.join(markdown.table(["measured, MiniLM-L6", "cost"], rows), source("limits"))


def clusters() -> str:
    """Return what the corpus takes on clusters of several sizes, as simulated."""
    result = read("limits")
    rows = [
        [
            f"{row['nodes']:,}",
            f"{1 / row['lost_per_hour']:.0f} hours" if row["lost_per_hour"] else "never",
            f"{row['seconds'] / 3600:,.1f}" if row["seconds"] else "does not end",
            f"{row['seconds'] / row['best_seconds']:.2f}" if row["seconds"] else "–",
            f"{row['lost_nodes']}",
            f"{100 * row['repeated_tasks'] / row['tasks']:.0f} %",
            f"{row['node_bytes'] / 1e6:.0f}",
            f"{row['driver_bytes'] / 1e6:.0f}",
        ]
        for row in result["rows"]
    ]
    head = [
        "nodes of one processor",
        "a node is lost once in",
        "hours",
        "× all processors busy to the end",
        "nodes lost",
        "tasks done again",
        "most on a node, MB",
        "on the driver, MB",
    ]
    return markdown.table(head, rows)
