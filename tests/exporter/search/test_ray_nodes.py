"""Labels of nodes: which there are, which are chosen, and what is said where one is missing."""

import pytest

from headway.errors import TargetError, UsageError
from headway.exporter.search import ray_nodes
from headway.exporter.search.ray_nodes import chosen_labels, labels_of, own_label

NODES = [
    {"Alive": True, "Resources": {"CPU": 4.0, "headway:x86-avx512": 1.0}},
    {"Alive": True, "Resources": {"CPU": 4.0, "headway:arm64": 1.0}},
    {"Alive": False, "Resources": {"headway:gone": 1.0}},
]


def test_labels_of_live_nodes_are_chosen_by_name() -> None:
    assert labels_of(NODES) == ["arm64", "x86-avx512"]
    assert chosen_labels(["x86-avx512", "arm64", "arm64"], NODES) == ["x86-avx512", "arm64"]
    assert chosen_labels([], NODES[:1]) == ["x86-avx512"]


def test_what_is_missing_is_named() -> None:
    with pytest.raises(TargetError, match=r"no node .* headway:gone; there are headway:arm64, headway:x86-avx512"):
        chosen_labels(["gone"], NODES)
    with pytest.raises(
        TargetError, match="no node of the cluster carries a label to measure on: start such a node with"
    ):
        chosen_labels([], NODES[2:])
    with pytest.raises(UsageError, match="several kinds of nodes to measure on: say which with --node, arm64 or x86"):
        chosen_labels([], NODES)
    with pytest.raises(UsageError, match="a label of letters, digits, dots and dashes"):
        chosen_labels(["../x"], NODES)


@pytest.mark.parametrize(
    ("machine", "flags", "label"),
    [
        ("x86_64", {"avx2", "avx512f", "avx512_vnni"}, "x86-avx512-vnni"),
        ("AMD64", {"avx2"}, "x86-avx2"),
        ("x86_64", set(), "x86"),
        ("aarch64", {"asimddp"}, "arm64"),
    ],
)
def test_a_machine_is_named_by_its_processor(
    machine: str, flags: set[str], label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_nodes.platform, "machine", lambda: machine)
    monkeypatch.setattr(ray_nodes, "about", lambda: ("", frozenset(flags)))
    assert own_label() == label
