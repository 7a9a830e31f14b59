"""Simulate what a cluster does with the shards of a corpus: tasks, sums that are merged pair by pair, nodes that are lost.

Nothing waits: time is a number here. A node does one task or one merge at a time. A lost node takes the work that it does and the sums
that it holds with it: what they were made of is counted again. A node of the same kind takes its place.
"""

import heapq
from collections import Counter
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cluster:
    """What is simulated. Times are seconds.

    `spread` is the standard deviation of a task's time, as a part of it: stragglers. `lost_per_hour`: how often each node is lost.
    `until`: when to give up, since nodes may be lost faster than they count.
    """

    nodes: int
    tasks: int
    task_seconds: float
    merge_seconds: float
    spread: float = 0.0
    lost_per_hour: float = 0.0
    seed: int = 0
    until: float = float("inf")


@dataclass
class Outcome:
    """What came out: how often each task is in the result, and what it took.

    `most_sums` is the largest number of sums that one node held at a time. `seconds` are infinite where nothing came out.
    """

    seconds: float
    counted: Counter[int]
    merges: int
    lost_nodes: int
    repeated_tasks: int
    most_sums: int


@dataclass
class _Node:
    """The event that ends what a node does, and the tasks that are in it."""

    job: int = 0
    work: tuple[int, ...] = ()


def simulate(cluster: Cluster) -> Outcome:
    """Run tasks and merges on a cluster until one sum of all tasks is left."""
    rng = np.random.default_rng(cluster.seed)
    nodes = [_Node() for _ in range(cluster.nodes)]
    waiting = list(range(cluster.tasks))[::-1]
    held: list[tuple[int, tuple[int, ...]]] = []  # sums that wait for another one: their node, and the tasks in them
    events: list[tuple[float, int, str, int]] = []
    number = lost = repeated = merges = most = 0
    now = 0.0

    def later(seconds: float, kind: str, node: int) -> int:
        nonlocal number
        number += 1
        heapq.heappush(events, (now + seconds, number, kind, node))
        return number

    def start(index: int) -> None:
        """Give a free node a task, or a merge of two sums."""
        node = nodes[index]
        if waiting:
            node.work = (waiting.pop(),)
            slow = max(0.1, 1 + cluster.spread * rng.standard_normal())
            node.job = later(cluster.task_seconds * slow, "done", index)
        elif len(held) > 1:
            node.work = held.pop()[1] + held.pop()[1]
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
        if now > cluster.until:
            return Outcome(float("inf"), Counter(), merges, lost, repeated, most)
        if kind == "lost":
            lost += 1
            gone = [task for work in (node.work, *(w for owner, w in held if owner == index)) for task in work]
            held[:] = [one for one in held if one[0] != index]
            repeated += len(gone)
            waiting += gone
            nodes[index] = _Node()
            idle.discard(index)
            later(rng.exponential(3600 / cluster.lost_per_hour), "lost", index)
            start(index)
        elif node.job == job:  # else the node was lost meanwhile
            held.append((index, node.work))
            merges += kind == "merged"
            most = max(most, sum(owner == index for owner, _ in held))
            if len(node.work) >= cluster.tasks:
                return Outcome(now, Counter(node.work), merges, lost, repeated, most)
            nodes[index] = _Node()
            start(index)
        while idle and (waiting or len(held) > 1):
            start(idle.pop())
