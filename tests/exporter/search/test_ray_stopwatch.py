"""Measurements go to nodes that carry the label, one at a time on each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway.errors import TargetError
from headway.exporter.compress.stopwatch import Workload
from headway.exporter.search import ray_stopwatch
from headway.exporter.search.clock import NothingMeasures
from headway.exporter.search.prepared_source import PreparedSource
from headway.exporter.search.ray_stopwatch import Elsewhere
from headway.exporter.targets.ort.target import OrtTarget

from tests.support.ray_clusters import add_node
from tests.support.slow_maker import node_of


@pytest.mark.slow
def test_measurements_go_to_nodes_of_the_label_while_there_is_one(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measuring = add_node(cluster, **{"headway:kind-a": 1})
    where = Elsewhere("kind-a", tmp_path)
    assert where.run(node_of) == measuring.node_id
    cluster.remove_node(measuring, allow_graceful=False)
    monkeypatch.setattr(ray_stopwatch, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(ray_stopwatch, "_PATIENCE", 5)
    with pytest.raises(NothingMeasures, match="no node of the cluster carries the label headway:kind-a any more"):
        where.run(node_of)


def test_pairs_and_tables_are_measured_there(
    source: PreparedSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where they run is the other test's: here they run in this process, from what would be sent."""
    monkeypatch.setattr(Elsewhere, "run", lambda _, work, *arguments: work(*arguments))
    where, workload = Elsewhere("kind-a", tmp_path), Workload(((1, 8),))
    clock = where.clock(source.model, workload, OrtTarget(), Path("not seen by others"))
    pairs: list[Any] = []
    monkeypatch.setattr(
        ray_stopwatch, "_time", lambda pair, *arguments: pairs.append(pair) or ("one", pair.time(*arguments))
    )
    timing = clock.time_at(source.model, [(1, 4)])[0]
    assert 0.2 < timing.ratio < 5 and pairs[0].source.is_relative_to(tmp_path) and pairs[0].own.is_relative_to(tmp_path)
    assert clock.about()["node"] == "kind-a" and "cpu" not in clock.about()
    asked: list[Any] = []
    monkeypatch.setattr(ray_stopwatch, "measure_table", lambda model, *rest: asked.append((model, rest)) or _Table())
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "put", lambda content: content)
    monkeypatch.setattr(ray_stopwatch.LatencyTable, "from_json", lambda raw: raw)
    monkeypatch.setattr(ray_stopwatch, "_processor", lambda: "one")
    assert where.table(source.model, workload, OrtTarget().spec, print) == {"cost": 1}
    sent = asked[0][0]
    assert sent is not source.model and [str(v.name) for v in sent.graph.inputs] == [
        str(v.name) for v in source.model.graph.inputs
    ]
    name = next(n for n in sent.graph.initializers if n.endswith("query.weight"))
    np.testing.assert_array_equal(
        sent.graph.initializers[name].const_value.numpy(), source.model.graph.initializers[name].const_value.numpy()
    )


def test_two_kinds_of_processors_under_one_label_are_refused(tmp_path: Path) -> None:
    for where in (Elsewhere("kind-a", tmp_path), Elsewhere("kind-a", tmp_path), Elsewhere("kind-b", tmp_path)):
        where.check("Fast 9000 (x86-avx512)" if where.label == "kind-a" else "Slow 1 (x86-avx2)")
    with pytest.raises(
        TargetError, match=r"headway:kind-a have different processors, Fast 9000 \(x86-avx512\) and Slow 1"
    ):
        Elsewhere("kind-a", tmp_path).check("Slow 1 (x86-avx2)")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kind-a.processor", "kind-b.processor"]


class _Table:
    def to_json(self) -> dict[str, int]:
        return {"cost": 1}
