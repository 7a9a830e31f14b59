"""Simulate what a cluster does with the shards of a corpus: tasks, sums that are merged pair by pair, nodes that are lost.

Time is simulated, so a thousand nodes take no more than a second. Each task and each merge takes one processor. A lost node takes the work
that it does and the sums that it holds with it: what they were made of is counted again. A node of the same kind takes its place.
"""

import heapq
from collections import Counter
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Cluster:
    """What is simulated. Times are seconds, of a task without its shards' own time none.

    `spread` is the standard deviation of a task's time, as a part of it: stragglers. `lost_per_hour`: how often a node is lost.
    """

    nodes: int
    tasks: int
    task_seconds: float
    merge_seconds: float
    spread: float = 0.0
    lost_per_hour: float = 0.0
    seed: int = 0


@dataclass
class Outcome:
    """What came out: how often each task is in the result, and what it took.

    `most_sums` is the largest number of sums that one node held at a time.
    """

    seconds: float
    counted: Counter[int]
    merges: int
    lost_nodes: int
    repeated_tasks: int
    most_sums: int


@dataclass
class _Node:
    job: int = 0
    work: frozenset[int] = frozenset()
    sums: list[frozenset[int]] = field(default_factory=list)


def simulate(cluster: Cluster) -> Outcome:
    """Run tasks and merges on a cluster until one sum of all tasks is left."""
    rng = np.random.default_rng(cluster.seed)
    nodes = [_Node() for _ in range(cluster.nodes)]
    waiting = list(range(cluster.tasks))[::-1]
    events: list[tuple[float, int, str, int]] = []
    number = lost = repeated = merges = most = 0
    now = 0.0

    def later(seconds: float, kind: str, node: int) -> int:
        nonlocal number
        number += 1
        heapq.heappush(events, (now + seconds, number, kind, node))
        return number

    def start(index: int) -> None:
        """Give a free node a merge of two sums, or a task."""
        node = nodes[index]
        held = [(i, s) for i, n in enumerate(nodes) for s in n.sums] if not waiting else []
        if waiting:
            node.work = frozenset([waiting.pop()])
            slow = max(0.1, 1 + cluster.spread * rng.standard_normal())
            node.job = later(cluster.task_seconds * slow, "done", index)
        elif len(held) > 1:
            for owner, sums in held[:2]:
                nodes[owner].sums.remove(sums)
            node.work = held[0][1] | held[1][1]
            node.job = later(cluster.merge_seconds, "merged", index)
        else:
            idle.add(index)

    idle: set[int] = set()
    for index in range(cluster.nodes):
        if cluster.lost_per_hour:
            later(rng.exponential(3600 / cluster.lost_per_hour), "lost", index)
        start(index)
    while True:
        now, job, kind, index = heapq.heappop(events)
        node = nodes[index]
        if kind == "lost":
            lost += 1
            gone = [t for s in (node.work, *node.sums) for t in s]
            repeated += len(gone)
            waiting += gone
            nodes[index] = _Node()
            idle.discard(index)
            later(rng.exponential(3600 / cluster.lost_per_hour), "lost", index)
            start(index)
        elif node.job == job:  # else the node was lost meanwhile
            work, node.work, node.job = node.work, frozenset(), 0
            node.sums.append(work)
            merges += kind == "merged"
            most = max(most, len(node.sums))
            if len(work) == cluster.tasks:
                return Outcome(now, Counter(work), merges, lost, repeated, most)
            start(index)
        for free in sorted(idle):
            idle.discard(free)
            start(free)
            if free in idle:
                break
