"""Know which nodes of a Ray cluster may measure: those that carry a label as a custom resource. Imports ray where it is used."""

import platform
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import TargetError, UsageError
from ...processor import about

PREFIX = "headway:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOW = "start such a node with: ray start … --resources='{\"headway:x86-avx512\": 1}', by whatever name its processors have"


def own_label() -> str:
    """Return the label of this machine: its architecture, and the widest vectors of it that ONNX Runtime computes integers with."""
    machine = platform.machine().lower()
    flags = about()[1]
    if machine not in ("x86_64", "amd64"):
        return "arm64" if machine in ("arm64", "aarch64") else machine or "unknown"
    widest = next((name for name in ("amx_int8", "avx512_vnni", "avx512f", "avx_vnni", "avx2") if name in flags), "")
    names = {
        "amx_int8": "amx",
        "avx512_vnni": "avx512-vnni",
        "avx512f": "avx512",
        "avx_vnni": "avx-vnni",
        "avx2": "avx2",
    }
    return f"x86-{names[widest]}" if widest else "x86"


def labels_of(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the labels that live nodes carry, as `ray.nodes()` tells of them."""
    names = {name for node in nodes if node.get("Alive") for name in node.get("Resources", {})}
    return sorted(name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX))


def chosen_labels(asked: Sequence[str], nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the labels to measure on: those asked for, or the only one that there is.

    TargetError where no live node carries one, UsageError where several kinds are there and none was asked for.
    """
    there = labels_of(nodes)
    for label in asked:
        if not _NAME.fullmatch(label):
            raise UsageError(f"--node {label}: a label of letters, digits, dots and dashes is expected, as x86-avx512")
        if label not in there:
            raise TargetError(f"no node of the cluster carries the label {PREFIX}{label}; {_there(there)}")
    if asked:
        return list(dict.fromkeys(asked))
    if not there:
        raise TargetError(f"no node of the cluster carries a label to measure on: {_HOW}")
    if len(there) > 1:
        raise UsageError(
            f"the cluster has several kinds of nodes to measure on: say which with --node, {' or '.join(there)}"
        )
    return there


def _there(labels: Sequence[str]) -> str:
    return f"there are {', '.join(PREFIX + label for label in labels)}" if labels else f"no label is there: {_HOW}"
