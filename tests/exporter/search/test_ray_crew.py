"""Trials on a cluster: a lost node costs its running trial."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headway.errors import TargetError, UsageError
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.search.crew import SourceFacts
from headway.exporter.search.front_file import FrontFile
from headway.exporter.search.prepared_source import PreparedSource
from headway.exporter.search.ray_crew import RayCrew, TrialMaker, _absolute, own_versions, ray_crew
from headway.exporter.search.run_search import SearchRequest, search
from headway.exporter.search.where import crews_for

from tests.support.ray_clusters import add_node
from tests.support.searching import search_recipe
from tests.support.slow_maker import LAST, SlowMaker, SlowPlan, SlowRequest

ray = pytest.importorskip("ray", reason="the extra search is not installed")


def crew_of(versions: tuple[str, str] | None = None, size: int = 2) -> RayCrew:
    plan: Any = SlowPlan(versions or own_versions())
    return RayCrew(ray, plan, size, lambda *_, **__: None, SlowMaker)


@pytest.fixture(scope="module")
def node(cluster: Any) -> Any:
    """Give the cluster a node of one processor."""
    return add_node(cluster)


@pytest.mark.slow
def test_a_lost_node_costs_its_running_trial(cluster: Any) -> None:
    nodes = [add_node(cluster), add_node(cluster)]
    crew = crew_of()
    again: list[Any] = []
    begun: list[int] = []
    running: dict[int, Any] = {}
    done: dict[int, str] = {}
    lost: list[int] = []
    left = 3  # trials that are made once a node is gone
    while left or running:
        while left and len(running) < crew.size:
            request: Any = again.pop() if again else SlowRequest(100 + len(begun))
            begun.append(request.number)
            crew.begin(request)
            running[request.number] = request
        record = crew.next()
        request = running.pop(record.number)
        if record.state == "lost":
            lost.append(record.number)
            print(len(done), record.why)
            again.append(request)
            continue
        assert record.number not in done
        done[record.number] = record.why
        left -= bool(lost) and left > 0
        if len(set(done.values())) == 2 and len(nodes) == 2:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
    crew.close()
    # The node of a trial may count as alive for a moment, and lose it once more.
    assert lost and len(set(lost)) == 1 and sorted(done) == sorted(set(begun))


@pytest.mark.slow
def test_a_trial_that_ends_its_process_is_lost(node: Any) -> None:
    crew = crew_of(size=1)
    crew.begin(SlowRequest(LAST))  # type: ignore[arg-type]
    record = crew.next()
    crew.close()
    assert record.state == "lost" and "its process or node was lost" in record.why


@pytest.mark.slow
def test_nodes_need_the_same_versions(node: Any) -> None:
    crew = crew_of(("0.0.1", "3.9.0"))
    with pytest.raises(TargetError, match=r"a node has Headway 0.0.1 on Python 3.9.0, and this is Headway"):
        crew.facts(None)
    crew.close()
    known: Any = "known"
    for given, found in ((None, "facts"), (known, "known")):
        crew = crew_of()
        assert crew.facts(given) == found
        crew.close()  # the processor is needed for the next


def test_a_process_that_goes_on_notices_a_changed_text(source: PreparedSource, facts: SourceFacts) -> None:
    plan: Any = SlowPlan(own_versions())
    maker = TrialMaker(plan)
    maker._source = source
    assert maker.facts(facts) is facts
    with pytest.raises(UsageError, match=r"the text .* has changed"):
        maker.facts(replace(facts, text="x"))


def test_places_are_absolute_for_processes_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    recipe = make_recipe("test", source="model", data=["a.txt", "b.txt"], adapters=["c"])
    assert _absolute(recipe) == {
        "source": str(tmp_path / "model"),
        "data": [tmp_path / "a.txt", tmp_path / "b.txt"],
        "adapters": [str(tmp_path / "c")],
    }
    assert _absolute(make_recipe("test", source="org/name")) == {}


@pytest.mark.parametrize("left", [False, True])
def test_latencies_of_a_search_before_are_not_taken_for_its_own(
    left: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = tmp_path / ".measured"
    if left:
        measured.mkdir()
        (measured / "old.json").write_text("{}")
    three: Any = SimpleNamespace(put=lambda plan: plan, cluster_resources=lambda: {"CPU": 3.0})
    monkeypatch.setitem(sys.modules, "ray", three)
    recipe = make_recipe("test", source="org/name")
    ways: dict[str, Any] = {
        "workers": None,
        "folder": tmp_path,
        "work": None,
        "allow_pickle": False,
        "step": lambda *_, **__: None,
    }
    with ray_crew(recipe, "kind", **ways) as crew:
        assert crew.size == 3 and not measured.exists()
        measured.mkdir()
    assert not measured.exists()


@pytest.mark.slow
def test_a_cluster_finds_what_one_machine_finds(
    cluster: Any, classifier: Path, lines: Path, facts: SourceFacts, tmp_path: Path
) -> None:
    """Trials, settings and losses are those of this process; latencies alone are measured."""
    add_node(cluster, **{"headway:kind-d": 1})
    recipe = search_recipe(classifier, lines)
    fronts: list[FrontFile] = []
    request = SearchRequest(recipe, tmp_path / "cluster", 60, 5)
    for part, hire in crews_for(request, print, workers=1, ray="auto", nodes=["kind-d"], work=tmp_path / "w"):
        fronts.append(search(part, hire))
    assert fronts[0].bundles and fronts[0].node == "kind-d"
