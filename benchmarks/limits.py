"""What a corpus of a billion texts would take on a cluster: costs measured here, the rest worked out and simulated.

    python -m benchmarks.limits [--texts 4096]

Measured are MiniLM-L6 on sentences of film reviews, one thread: seconds for a text, bytes of what is counted, seconds to merge two such
sums.
The cluster is `benchmarks.merge_tree`: stragglers, lost nodes, sums that are merged pair by pair. Nothing of it is run. Writes JSON.
"""

import argparse
import math
import pickle
import tempfile
import time
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from headway.calibration.corpus_shards import ROWS, open_corpus
from headway.calibration.session import Session
from headway.calibration.shard_sums import ShardSums, count_shards
from headway.calibration.shards_on_ray import GROUPS
from headway.exporter.bench.measure import machine

from .data import sentences
from .many_shards import prepared
from .merge_tree import Cluster, simulate
from .models import minilm
from .results import save

TEXTS = 10**9
NODES = (1, 10, 100, 1000)
SPREAD = 0.2
PATIENCE = 10
"""Times the best time after which a simulated run counts as one that does not end."""

LOST_PER_HOUR = 0.02
"""How often each node is lost: once in 50 hours. An assumption."""


@dataclass(frozen=True)
class Costs:
    """What was measured: seconds for a text and for a merge, bytes of sums on their way and of what every node is sent once."""

    texts: int
    tokens: int
    text_seconds: float
    merge_seconds: float
    sums_bytes: int
    sent_bytes: int


def measured(texts: int) -> Costs:
    """Count two halves of some sentences on MiniLM, and merge them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = sentences()[:texts]
        (folder / "corpus.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        corpus = open_corpus([folder / "corpus.txt"], rows=-(-len(lines) // 2))
        encoder, counting, graph, readers = prepared(str(minilm()), folder)
        session = Session(graph, counting.names, readers)
        count_shards(session, encoder, corpus, [1], counting)  # the first run makes buffers
        start = time.perf_counter()
        halves = [count_shards(session, encoder, corpus, [number], counting) for number in range(2)]
        seconds = time.perf_counter() - start
        sent = sum(path.stat().st_size for path in (graph, graph.with_name(f"{graph.name}.data"), encoder.path))
    return Costs(
        len(lines),
        sum(half.sums.tokens for half in halves),
        seconds / len(lines),
        _merge_seconds(*halves),
        len(pickle.dumps(halves[0], protocol=5)),
        sent,
    )


def _merge_seconds(one: ShardSums, other: ShardSums) -> float:
    """Return the least of five: sums are read from what was sent, copied and merged."""
    raw, spent = pickle.dumps((one, other), protocol=5), []
    for _ in range(5):
        start = time.perf_counter()
        first, second = pickle.loads(raw)
        merged = deepcopy(first)
        merged.merge(second)
        pickle.dumps(merged.finish(), protocol=5)
        spent.append(time.perf_counter() - start)
    return min(spent)


def on_cluster(costs: Costs, nodes: int, lost_per_hour: float) -> dict[str, Any]:
    """Return what all texts take on nodes of one processor each."""
    tasks = GROUPS * nodes
    task_seconds = TEXTS / tasks * costs.text_seconds
    best = TEXTS * costs.text_seconds / nodes
    cluster = Cluster(nodes, tasks, task_seconds, costs.merge_seconds, SPREAD, lost_per_hour, until=PATIENCE * best)
    outcome = simulate(cluster)
    ended = math.isfinite(outcome.seconds)
    if ended and outcome.counted != dict.fromkeys(range(tasks), 1):
        raise RuntimeError(f"{nodes} nodes: a task is not in the sums once")
    return {
        "nodes": nodes,
        "lost_per_hour": lost_per_hour,
        "tasks": tasks,
        "task_seconds": task_seconds,
        "seconds": outcome.seconds if ended else None,
        "best_seconds": best,
        "merges": outcome.merges,
        "lost_nodes": outcome.lost_nodes,
        "repeated_tasks": outcome.repeated_tasks,
        "node_bytes": outcome.most_sums * costs.sums_bytes + costs.sent_bytes,
        "driver_bytes": costs.sent_bytes + 2 * costs.sums_bytes,
        "shards": -(-TEXTS // ROWS),
    }


def main() -> None:
    """Measure, simulate, print one table and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=4096)
    costs = measured(parser.parse_args().texts)
    rows = [on_cluster(costs, nodes, lost) for nodes in NODES for lost in (0.0, LOST_PER_HOUR) if nodes > 1 or not lost]
    table = Table("nodes", "lost an hour", "hours", "× the best", "lost nodes", "tasks again", "node, MB", "driver, MB")
    for row in rows:
        table.add_row(
            str(row["nodes"]),
            str(row["lost_per_hour"]),
            f"{row['seconds'] / 3600:,.1f}" if row["seconds"] else "does not end",
            f"{row['seconds'] / row['best_seconds']:.2f}" if row["seconds"] else "",
            str(row["lost_nodes"]),
            str(row["repeated_tasks"]),
            f"{row['node_bytes'] / 1e6:,.0f}",
            f"{row['driver_bytes'] / 1e6:,.0f}",
        )
    Console(width=120).print(table)
    save("limits", {"machine": machine(), "texts": TEXTS, "spread": SPREAD, "costs": asdict(costs), "rows": rows})


if __name__ == "__main__":
    main()
