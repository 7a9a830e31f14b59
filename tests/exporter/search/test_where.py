"""Where a search runs: here, in several processes, or on a cluster with a front for each kind of nodes."""

from pathlib import Path
from typing import Any

import pytest

from headway.errors import TargetError, UsageError
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.search import where
from headway.exporter.search.crew import own_crew
from headway.exporter.search.run_search import SearchRequest
from headway.exporter.search.where import crews_for

ray = pytest.importorskip("ray", reason="the extra search is not installed")


@pytest.fixture
def request_(tmp_path: Path) -> SearchRequest:
    return SearchRequest(make_recipe("test", source="x"), tmp_path / "out", 60, 9)


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the addresses that were connected to; the cluster has nodes of two kinds, and one of this machine's."""
    asked: list[Any] = []
    labels = ["kind-b", "kind-c", "here"]
    monkeypatch.setattr(where, "own_label", lambda: "here")
    monkeypatch.setattr(where, "connect", lambda address, **keys: asked.append((address, keys)))
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {f"headway:{x}": 1.0}} for x in labels])
    return asked


def test_one_worker_is_this_process(request_: SearchRequest, connected: list[Any]) -> None:
    ((part, hire),) = crews_for(request_, print)
    assert part is request_ and hire.func is own_crew and not connected  # type: ignore[attr-defined]


def test_several_workers_measure_on_this_machine(request_: SearchRequest, connected: list[Any]) -> None:
    ((part, hire),) = crews_for(request_, print, workers=2)
    assert part == request_  # so that it goes on with any number of workers
    assert connected == [("local", {"processors": 2, "resources": {"headway:here": 1}})]
    assert hire.args[1] == "here" and hire.keywords["workers"] == 2  # type: ignore[attr-defined]


def test_each_kind_of_nodes_has_its_own_front(request_: SearchRequest, connected: list[Any]) -> None:
    with pytest.raises(TargetError, match="no node of the cluster carries the label headway:x86-none"):
        list(crews_for(request_, print, ray="auto", nodes=["x86-none"]))
    with pytest.raises(UsageError, match="say which with --node, here or kind-b or kind-c"):
        list(crews_for(request_, print, ray="auto"))
    parts = [part for part, _ in crews_for(request_, print, ray="auto", nodes=["kind-c", "kind-b"])]
    assert [(p.out.name, p.node, p.minutes, p.trials) for p in parts] == [
        ("kind-c", "kind-c", 30, 5),
        ("kind-b", "kind-b", 30, 5),
    ]
    ((one, _),) = crews_for(request_, print, ray="auto", nodes=["kind-b"])
    assert one.out == request_.out and one.node == "kind-b"


def test_a_cluster_of_this_machine_alone_has_its_label_and_no_other(
    request_: SearchRequest, connected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"headway:here": 1.0}}])
    for nodes in ([], ["here"]):
        ((part, _),) = crews_for(request_, print, ray="local", nodes=nodes)
        assert part.node == "here"
    with pytest.raises(TargetError, match=r"no node of the cluster carries the label headway:arm64; there are .*here"):
        list(crews_for(request_, print, ray="local", nodes=["arm64"]))
