"""Whole gates on a simulated machine: verdicts, locks, crashes, and what is refused before anything is measured."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.errors import SourceError, TargetError, UsageError
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.validate import gate_bundle as module
from headway.exporter.validate import scenarios
from headway.exporter.validate.gate_bundle import Question, gate_bundle, middles
from headway.exporter.validate.lock import Lock, identity_of
from headway.exporter.validate.modes import MODES
from headway.exporter.validate.outputs import GateResult

from tests.support.gating import blocks

SHORT = replace(MODES["quick"], ratio_seconds=1e-6, half_width=0.5, processes=2)
"""As few blocks as there can be: the clock is the real one."""

TEXTS = [f"text {'long ' * i}" for i in range(20)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS))
    return path


def gated(
    monkeypatch: pytest.MonkeyPatch, bundle: Exported, *, run: Any = None, **given: Any
) -> tuple[GateResult, Lock | None]:
    monkeypatch.setattr(module, "run_block", run or blocks())
    monkeypatch.setattr(scenarios, "available", lambda: True)
    return gate_bundle(Question(bundle.path, given.pop("limits", {}), given.pop("mode", SHORT), **given))


def verdicts(result: GateResult) -> dict[str, str]:
    return {row.gate: row.verdict for row in result.rows}


def test_limits_that_hold_and_limits_that_do_not(
    monkeypatch: pytest.MonkeyPatch, bert_bundle: Exported, data: Path
) -> None:
    wide = {"p50_ms": 12, "p90_ms": 12, "throughput": 1000, "max_mb": 5, "max_rss_mb": 200, "cold_start_ms": 200}
    result, lock = gated(monkeypatch, bert_bundle, limits=wide, data=data)
    assert result.verdict == "pass" and lock is None and list(verdicts(result)) == list(wide)
    tight = {"p50_ms": 8, "throughput": 9000, "max_mb": 0.01, "max_rss_mb": 50, "cold_start_ms": 50}
    result, _ = gated(monkeypatch, bert_bundle, limits=tight, data=data)
    assert set(verdicts(result).values()) == {"fail"} and result.verdict == "fail"
    assert "import 30, load 40" in result.rows[-1].note
    assert result.to_json()["figures"]["single-stream"]["percentiles"]["p50_ms"]["value"] == pytest.approx(10, rel=0.05)


def test_a_noisy_machine_leaves_what_it_cannot_tell_undecided(
    monkeypatch: pytest.MonkeyPatch, bert_bundle: Exported, data: Path
) -> None:
    result, _ = gated(monkeypatch, bert_bundle, run=blocks(taken=0.4), limits={"p50_ms": 12, "p90_ms": 9}, data=data)
    assert verdicts(result) == {"p50_ms": "undecided", "p90_ms": "fail"}
    assert result.rows[0].figure is None and any("40 % of the time away" in remark for remark in result.remarks)


def test_the_same_bundle_passes_by_its_lock_and_a_slower_one_fails(
    monkeypatch: pytest.MonkeyPatch, bert_bundle: Exported, data: Path, tmp_path: Path
) -> None:
    mode = replace(SHORT, ratio_seconds=30, half_width=0.012)
    _, lock = gated(monkeypatch, bert_bundle, lock=True, data=data, mode=mode)
    assert lock is not None and len(lock.blocks) >= 12
    file = tmp_path / "headway.lock"
    lock.write(file)
    for slowdown, expected in ((1.0, "pass"), (1.2, "fail")):
        result, _ = gated(monkeypatch, bert_bundle, run=blocks(slowdown, seed=5), baseline=file, data=data, mode=mode)
        assert verdicts(result) == {"speedup_vs": expected, "max_mb": "pass", "max_rss_mb": "pass"}
    with pytest.raises(UsageError, match="give the same --data"):
        gated(monkeypatch, bert_bundle, baseline=file)
    content = json.loads(file.read_text(encoding="utf-8"))
    content["machine"]["cpu"] = "Another"
    file.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="another kind of machine"):
        gated(monkeypatch, bert_bundle, baseline=file, data=data, limits={"p99_ms": 10})


def test_a_bundle_is_compared_with_another(monkeypatch: pytest.MonkeyPatch, bert_bundle: Exported, data: Path) -> None:
    asked: list[Any] = []

    def run(request: Any) -> Any:
        asked.append(request.get("other"))
        return blocks(0.5)(request)

    result, _ = gated(
        monkeypatch, bert_bundle, run=run, baseline=bert_bundle.path, limits={"speedup_vs": 1.5}, data=data
    )
    assert verdicts(result) == {"speedup_vs": "pass"} and set(asked) == {str(bert_bundle.path.resolve())}


def test_a_crash_ends_the_run_and_keeps_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, bert_bundle: Exported, data: Path
) -> None:
    limits = {"max_mb": 5, "p50_ms": 12, "cold_start_ms": 200}
    result, _ = gated(monkeypatch, bert_bundle, run=blocks(crash_after=3), limits=limits, data=data)
    assert result.verdict == "fail" and result.crash is not None and "SIGSEGV" in result.line
    assert verdicts(result) == {"p50_ms": "pass", "max_mb": "pass"}
    assert len(result.figures["cold_starts"]) == 4


def test_what_cannot_be_judged_is_refused_before_it_is_measured(
    monkeypatch: pytest.MonkeyPatch, bert_bundle: Exported, data: Path, tmp_path: Path
) -> None:
    def never(_: Any) -> Any:
        raise AssertionError("measured")

    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "nothing to judge by"),
        ({"limits": {"speedup_vs": 2}}, "give --baseline"),
        ({"limits": {"p50_ms": 2}, "data": empty}, "holds no text"),
        ({"limits": {"max_quality_drop": 1}, "against": "source"}, "needs labeled text: give --data"),
        (
            {"limits": {"max_quality_drop": 1}, "against": "source", "data": data},
            "no quality on labels is defined for|no columns",
        ),
        ({"scenarios": ["server"]}, "give --bound"),
        ({"baseline": data}, "no bundle and no lock|not valid JSON"),
    ]
    for given, message in cases:
        with pytest.raises((UsageError, SourceError), match=message):
            gated(monkeypatch, bert_bundle, run=never, **given)
    monkeypatch.setattr(scenarios, "available", lambda: False)
    monkeypatch.setattr(module, "run_block", never)
    with pytest.raises(TargetError, match="mlperf_loadgen is not installed"):
        gate_bundle(Question(bert_bundle.path, {"p50_ms": 2}, SHORT, data=data))


def test_a_bundle_to_compare_with_is_one_of_the_same_model(
    monkeypatch: pytest.MonkeyPatch, bert_bundle: Exported, bert_classifier: Path, data: Path, tmp_path: Path
) -> None:
    def never(_: Any) -> Any:
        raise AssertionError("measured")

    other = export(Recipe(source=str(bert_classifier)), tmp_path / "other").path
    with pytest.raises(UsageError, match="was made from another model than"):
        gated(monkeypatch, bert_bundle, run=never, baseline=other, data=data)
    with pytest.raises(UsageError, match="--lock measures beside the reference workload"):
        gated(monkeypatch, bert_bundle, run=never, baseline=bert_bundle.path, lock=True, data=data)
    copy = Path(shutil.copytree(bert_bundle.path, tmp_path / "copy"))
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(SourceError, match=r"tokenizer\.json"):
        gated(monkeypatch, bert_bundle, run=never, baseline=copy, data=data)


def test_the_closed_loop_stands_for_load_generator(
    monkeypatch: pytest.MonkeyPatch, bert_bundle: Exported, data: Path
) -> None:
    limits = {"p50_ms": 12, "throughput": 1000}
    result, _ = gated(monkeypatch, bert_bundle, limits=limits, data=data, scenarios=["closed-loop"])
    assert result.verdict == "pass" and "closed-loop" in result.figures and "offline" not in result.figures


def test_the_texts_of_a_comparison_are_the_middles_of_the_quarters() -> None:
    assert middles([str(i) * i for i in range(1, 9)]) == ["22", "4444", "666666", "88888888"]
    assert middles([("a", "bb"), "c"]) == ["c", "c", ("a", "bb"), ("a", "bb")]


def test_a_sweep_measures_threads_batches_and_the_warm_up(
    monkeypatch: pytest.MonkeyPatch, bert_bundle: Exported, data: Path
) -> None:
    monkeypatch.setattr(module, "thread_counts", lambda: [1, 2])
    result, _ = gated(monkeypatch, bert_bundle, data=data, sweep=True)
    assert result.verdict == "pass" and result.rows == []
    assert result.figures["warm_up_ms"] == [[20.0, *([10.0] * 49)]] * 3
    cells = {(cell["threads"], cell["batch"]): cell for cell in result.figures["sweep"]}
    assert set(cells) == {(threads, batch) for threads in (1, 2) for batch in (1, 2, 4, 8, 16, 32)}
    assert cells[2, 8]["texts_per_second"]["value"] == pytest.approx(200, rel=0.05)


def test_a_sweep_changes_no_other_gate(monkeypatch: pytest.MonkeyPatch, bert_bundle: Exported, data: Path) -> None:
    limits = {"max_rss_mb": 500.0, "cold_start_ms": 150.0}
    monkeypatch.setattr(module, "thread_counts", lambda: [1, 2, 3, 4])
    plain, swept = (
        gated(monkeypatch, bert_bundle, limits=limits, data=data, sweep=sweep)[0] for sweep in (False, True)
    )
    assert verdicts(plain) == verdicts(swept) == {"max_rss_mb": "pass", "cold_start_ms": "pass"}
    assert len(plain.figures["cold_starts"]) == len(swept.figures["cold_starts"])


def test_a_sweep_that_crashes_keeps_what_it_had(
    monkeypatch: pytest.MonkeyPatch, bert_bundle: Exported, data: Path
) -> None:
    monkeypatch.setattr(module, "thread_counts", lambda: [1, 2])
    result, _ = gated(monkeypatch, bert_bundle, run=blocks(crash_after=4), data=data, sweep=True)
    assert result.verdict == "fail" and {cell["threads"] for cell in result.figures["sweep"]} == {1}


def test_a_verdict_names_the_bytes_that_it_is_on(
    monkeypatch: pytest.MonkeyPatch, bert_bundle: Exported, data: Path
) -> None:
    result, _ = gated(monkeypatch, bert_bundle, limits={"max_mb": 5}, data=data)
    assert result.to_json()["artifact"] == identity_of(bert_bundle.path, bert_bundle.manifest)["artifact"] != ""
