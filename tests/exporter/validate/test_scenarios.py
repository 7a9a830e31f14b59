"""Scenarios of a bundle, and the closed loop that needs no LoadGen."""

from typing import Any

import pytest

from headway import Bundle
from headway.errors import TargetError, UsageError
from headway.exporter.export import Exported
from headway.exporter.validate import scenarios
from headway.exporter.validate.load_generator import available
from headway.exporter.validate.scenarios import check_scenarios, closed_loop, run_scenario

TEXTS = ["a text", "the train runs on time", "bread", "small heads and large layers"]


def run(bundle: Exported, scenario: str, **more: Any) -> dict[str, Any]:
    results: dict[str, Any] = {}
    opened = Bundle.open(bundle.path, threads=1)
    request = {"scenario": scenario, "texts": TEXTS, "seconds": 0.05, **more}
    run_scenario(opened, request, lambda said: results.update(said.get("scenario", {})))
    return results


def test_the_closed_loop_asks_every_text_equally_often() -> None:
    asked: list[int] = []
    log = closed_loop(asked.extend, 4, seconds=0.0, least=40)
    assert len(log.wall_ms) == 40 and [asked.count(i) for i in range(4)] == [10] * 4


@pytest.mark.parametrize("tokenize", [False, True])
def test_a_bundle_runs_in_a_closed_loop(bert_bundle: Exported, tokenize: bool) -> None:
    result = run(bert_bundle, "closed-loop", tokenize=tokenize)
    assert len(result["wall_ms"]) >= 20 and result["cpu_seconds_per_1000_texts"] > 0 and result["tokenization_ms"] > 0


@pytest.mark.skipif(not available(), reason="mlperf_loadgen is not installed")
def test_a_server_is_searched_for_its_capacity(bert_bundle: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "_QUERIES_OF_A_TRIAL", 20)
    result = run(bert_bundle, "server", bound_ms=200.0)
    assert len(result["p99_ms"]) == len(result["capacity"]["trials"]) > 0
    assert result["capacity"]["trials"] and result["bound_ms"] == 200


def test_a_bound_below_one_answer_is_not_searched_for(bert_bundle: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "available", lambda: True)
    monkeypatch.setattr(scenarios, "generate", lambda *_, **__: pytest.fail("queries were sent"))
    assert run(bert_bundle, "server", bound_ms=1e-6)["capacity"]["rate"] == 0


def test_what_is_not_known_or_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="scenario 'offlien' is not known"):
        check_scenarios(["offlien"])
    monkeypatch.setattr(scenarios, "available", lambda: False)
    with pytest.raises(TargetError, match=r"pip install mlcommons-loadgen.*closed-loop"):
        check_scenarios(["server"])
    check_scenarios(["closed-loop"])
