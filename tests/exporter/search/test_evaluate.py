"""One trial: what it costs is spent only where it may reach the front, and its bundle is made again by its recipe."""

from dataclasses import replace
from pathlib import Path

import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

import headway
from headway.errors import GateError, UsageError
from headway.exporter.compress.job import Job
from headway.exporter.export import export
from headway.exporter.recipe.recipe import read_recipe
from headway.exporter.search import evaluate as module
from headway.exporter.search.crew import SourceFacts
from headway.exporter.search.evaluate import TrialRequest, evaluate
from headway.exporter.search.prepared_source import PreparedSource
from headway.exporter.search.trial_settings import TrialSettings

from tests.support.searching import record

CUT = TrialSettings(1.5, ("heads", "neurons"), coverage=0.9, quantize="int8", float_blocks=1)


def request(facts: SourceFacts, folder: Path, settings: TrialSettings, number: int = 1, **keys: object) -> TrialRequest:
    return TrialRequest(number, settings, (), facts.latencies, facts.factors, facts.ms, folder, **keys)  # type: ignore[arg-type]


def test_a_bundle_is_verified_judged_and_made_again(source: PreparedSource, facts: SourceFacts, tmp_path: Path) -> None:
    asked = request(facts, tmp_path / "bundles", CUT, rss=True)
    made = evaluate(source, asked)
    assert made.state == "bundle" and made.measured is not None and made.expected is not None, made.why
    assert made.measured.rss_mb and made.measured.rss_mb > 10 and made.measured.ms < 10
    bundle = headway.open(asked.out)
    compression = bundle.manifest.compression
    assert compression is not None and compression["texts"]["choose"] > 0
    assert compression["stages"][-1]["name"] == "trim_vocabulary, fit, repair, quantize"
    recipe = read_recipe(asked.out / "recipe.yaml", source.flow.recipe.source)
    keep = recipe.passes[-1].keep  # type: ignore[attr-defined]
    assert len(keep) == 6 and recipe.calibration.choose
    again = export(
        recipe.model_copy(update={"data": source.flow.recipe.data}), tmp_path / "again", work=tmp_path / "work"
    )
    names = sorted(p.name for p in asked.out.glob("*.onnx*"))
    assert names
    for name in names:
        assert (again.path / name).read_bytes() == (asked.out / name).read_bytes()


def test_what_cannot_reach_the_front_is_stopped_before_it_costs(
    source: PreparedSource, facts: SourceFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(source, request(facts, tmp_path, CUT, 1))
    monkeypatch.setattr(module, "build_artifact", lambda *_: pytest.fail("an artifact was built"))
    same = evaluate(source, replace(request(facts, tmp_path, CUT, 2), known=(first,)))
    assert (same.state, same.why) == ("stopped", "it is the model of trial 1") and same.seconds > 0
    nearer = replace(first, expected=replace(first.expected, off=0.0, ms=0.0), plain_mb=0.0)
    monkeypatch.setattr(module, "sensitive_blocks", lambda *_: pytest.fail("it was quantized"))
    cut = evaluate(source, replace(request(facts, tmp_path, CUT, 3), known=(nearer,)))
    assert cut.state == "stopped" and "no faster and no smaller than trial 1" in cut.why
    monkeypatch.undo()
    whole = TrialSettings(quantize="int8")
    best = record(4, -200.0, 0.1, 0.0)
    timed = evaluate(source, replace(request(facts, tmp_path, whole, 5), known=(best,)))
    assert timed.state == "stopped" and "trial 4 loses no more" in timed.why
    assert [p.name for p in tmp_path.iterdir()] == ["001"]


def test_int8_without_kernels_here_has_the_latency_of_its_cut_in_float(
    source: PreparedSource, facts: SourceFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = evaluate(source, request(facts, tmp_path, replace(CUT, quantize="none", float_blocks=0), 1))
    monkeypatch.setattr(Job, "times_int8", False)
    made = evaluate(source, request(facts, tmp_path, CUT, 2))
    assert plain.measured is not None and made.measured is not None
    assert made.measured.ms == pytest.approx(plain.measured.ms) and made.measured.ms < 0.9 * facts.ms
    assert made.expected is not None and made.measured.mb < plain.measured.mb
    # A bundle of the same losses, latency and weights beats it by them alone: its files may have other bytes.
    same = record(4, made.expected.lost or 0.0, made.measured.ms, 1e6, expected=replace(made.expected, ms=1e6))
    again = evaluate(source, replace(request(facts, tmp_path, CUT, 5), known=(same,)))
    assert again.why == "measured, it is beaten by trial 4"


@pytest.mark.parametrize(
    "error", [RuntimeError("no memory\nfor it"), MemoryError("no memory for it"), Fail("no memory for it")]
)
@pytest.mark.parametrize("place", ["cut_by_table", "build_artifact"])
def test_what_torch_or_onnxruntime_cannot_do_is_refused(
    source: PreparedSource,
    facts: SourceFacts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    place: str,
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, place, fails)
    made = evaluate(source, request(facts, tmp_path, TrialSettings(1.5, ("neurons",))))
    assert made.state == "refused" and made.why == f"it could not be made: {type(error).__name__}: no memory for it"
    assert (made.expected is not None) == (place == "build_artifact") and not list(tmp_path.iterdir())


def test_a_full_disk_is_no_result_of_a_trial(
    source: PreparedSource, facts: SourceFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(module, "cut_by_table", fails)
    with pytest.raises(UsageError, match="the disk is full"):
        evaluate(source, request(facts, tmp_path, TrialSettings(1.5, ("neurons",))))


def test_latencies_are_told_in_milliseconds_of_the_first_run(
    source: PreparedSource, facts: SourceFacts, tmp_path: Path
) -> None:
    """A process that goes on measures the source anew, and its figures stand beside those of the first."""
    here = evaluate(source, request(facts, tmp_path, CUT, 1)).measured
    first = evaluate(source, replace(request(facts, tmp_path, CUT, 2), source_ms=2 * facts.ms)).measured
    assert here is not None and first is not None
    assert first.ms == pytest.approx(2 * here.ms) and first.ms_high == pytest.approx(2 * here.ms_high)
    compression = headway.open(tmp_path / "002").manifest.compression
    assert compression is not None and compression["stages"][0]["ms"] == 2 * facts.ms
    assert compression["speedup"] == pytest.approx(facts.ms / here.ms)
    assert source.first.given.stopwatch.source_ms == facts.ms


def test_what_is_refused_says_why(source: PreparedSource, facts: SourceFacts, tmp_path: Path) -> None:
    nothing = evaluate(source, request(facts, tmp_path, TrialSettings()))
    assert (nothing.state, nothing.why) == ("stopped", "it leaves the source as it is")
    far = evaluate(source, request(facts, tmp_path, TrialSettings(50.0, ("heads",))))
    assert far.state == "refused" and "cannot be met" in far.why
    given = replace(source.first.given, recipe=source.first.given.recipe.model_copy(update={"max_drop": -101.0}))
    strict = replace(source, flow=replace(source.flow, recipe=given.recipe))
    lost = evaluate(strict, request(facts, tmp_path, TrialSettings(quantize="int8")))
    assert lost.state == "stopped" and "points on the texts to choose by" in lost.why
    assert not list(tmp_path.iterdir())


def test_what_judges_refuse_is_no_news_for_the_sampler(
    source: PreparedSource, facts: SourceFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal by the texts that judge leaves what was expected as it is, so that what is tried next does not depend on them."""

    def too_much(_: object) -> None:
        raise GateError("30 points were lost on held-out text")

    monkeypatch.setattr(module, "check_quality", too_much)
    refused = evaluate(source, request(facts, tmp_path, TrialSettings(quantize="int8")))
    assert refused.state == "refused" and "30 points" in refused.why and not list(tmp_path.iterdir())
    assert refused.expected is not None and refused.expected.lost is not None and refused.measured is None
